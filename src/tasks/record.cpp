#include "tasks/record.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "io/content_hash.h"
#include "io/hf_checkpoint.h"

namespace pq::tasks {
namespace {

namespace fs = std::filesystem;

/// Part of a file name.
std::string plain(std::string text) {
  for (char& c : text) {
    const bool kept =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    if (!kept) c = '_';
  }
  return text;
}

}  // namespace

std::string model_checksum(const std::string& model) {
  const fs::path path = io::resolve_model(model);
  if (!fs::is_directory(path)) return io::content_hash_of_file(path);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string extension = entry.path().extension().string();
    const bool part = extension == ".json" || extension == ".safetensors" || extension == ".model";
    if (part && entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  io::ContentHasher hasher;
  for (const fs::path& file : files) {
    hasher.add_text(file.filename().string());
    hasher.add_text(io::content_hash_of_file(file));
  }
  return hasher.digits();
}

Json data_json(std::span<const Task> tasks) {
  Json json = Json::object();
  for (const Task& task : tasks) {
    const std::string file = task.file.filename().string();
    if (!json.contains(file)) json[file] = io::content_hash_of_file(task.file);
    for (const fs::path& further : task.further_files) {
      json[further.filename().string()] = io::content_hash_of_file(further);
    }
  }
  return json;
}

std::string sample_lines(const Task& task, std::span<const DocumentScore> scores) {
  std::string lines;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Document& document = task.documents[i];
    io::ContentHasher prompts;
    for (const Prompt& prompt : document.prompts) {
      prompts.add_text(prompt.context);
      prompts.add_text(prompt.continuation);
    }
    Json json{{"doc_id", i},
              {"prompt_hash", prompts.digits()},
              {"log_likelihoods", scores[i].log_likelihoods},
              {"greedy", scores[i].greedy}};
    if (task.row->scoring == Scoring::choices) {
      json["choice"] = likeliest(scores[i]);
      if (task.row->normalized) json["choice_norm"] = likeliest_by_length(scores[i], document);
      json["gold"] = document.gold;
    }
    json["truncated"] = scores[i].truncated;
    lines += json.dump() + "\n";
  }
  return lines;
}

fs::path RecordName::results() const { return directory / fmt::format("results_{}_{}.json", model, time); }

fs::path RecordName::samples(const std::string& task, const std::string& row) const {
  return directory / fmt::format("samples_{}_{}_{}_{}.jsonl", model, plain(row), task, time);
}

RecordName new_record_name(const fs::path& directory, const std::string& model) {
  std::string name = fs::path(model).filename().string();
  if (name.empty()) name = fs::path(model).parent_path().filename().string();
  const std::string time = fmt::format("{:%Y-%m-%dT%H-%M-%S}", fmt::gmtime(std::time(nullptr)));
  RecordName record{directory, plain(name), time};
  for (int again = 2; fs::exists(record.results()); ++again) record.time = fmt::format("{}-{}", time, again);
  return record;
}

}  // namespace pq::tasks
