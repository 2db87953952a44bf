#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "base/json.h"
#include "tasks/metrics.h"

namespace pq::tasks {

/// XXH3 of all files that a model consists of, names and contents; of the file itself for a GGUF.
std::string model_checksum(const std::string& model);
/// XXH3 of each file that the tasks were read from, by its name.
Json data_json(std::span<const Task> tasks);

/// A JSON line for each document: "doc_id", "prompt_hash" (XXH3 of contexts and continuations),
/// "log_likelihoods", "greedy", "choice", "choice_norm", "gold", "truncated".
std::string sample_lines(const Task& task, std::span<const DocumentScore> scores);

/// DIR/PREFIX_MODEL_TIME for a record of now, such that neither it nor its samples are there yet; TIME in UTC.
struct RecordName {
  std::filesystem::path directory;
  std::string model;  ///< the last part of its path, without what a file name cannot hold
  std::string time;

  std::filesystem::path results() const;
  std::filesystem::path samples(const std::string& task, const std::string& row) const;
};
RecordName new_record_name(const std::filesystem::path& directory, const std::string& model);

}  // namespace pq::tasks
