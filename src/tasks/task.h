#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/document.h"
#include "tasks/json_lines.h"

namespace pq::tasks {

/// How the documents of a task are scored.
enum class Scoring {
  choices,    ///< the likeliest choice is right: acc; and acc_norm where the row says so
  last_word,  ///< the word is what greedy decoding gives: acc; and its perplexity
  pages,      ///< perplexity a word, a byte
};

/// A task of one file with one document a line. A new one is a row of task_rows() and a function that makes a Document
/// of a line.
struct TaskRow {
  std::string_view name;  ///< lm-evaluation-harness's
  std::string_view file;
  Scoring scoring;
  bool normalized;                             ///< acc_norm is reported too, and is what the paper reports
  bool in_average;                             ///< one of the paper's five
  Document (*document)(const JsonLine& line);  ///< nullptr: mmlu_* and wikitext, whose documents need more than a line
};
const std::vector<TaskRow>& task_rows();

/// A task that was asked for, with its documents.
struct Task {
  std::string name;  ///< the row's; "mmlu_SUBJECT"
  const TaskRow* row;
  std::string subject;  ///< of MMLU; else empty
  std::filesystem::path file;
  std::vector<Document> documents;  ///< the first `limit`
  std::vector<std::filesystem::path> further_files = {};
};

struct TaskChoice {
  std::vector<std::string> names;  ///< tasks, `mmlu`, `mmlu_GROUP`, `paper`: the five of the paper's average
  std::filesystem::path directory;
  int mmlu_shots = 0;      ///< 0 or 5
  std::int64_t limit = 0;  ///< documents of each task, of each subject; 0: all
  std::filesystem::path wikitext =
      {};  ///< a raw WikiText file; empty: wiki.test.raw or wikitext.jsonl of the directory
};

/// The tasks that the names stand for, each once, in that order. Throws InputError for an unknown name ("did you
/// mean").
std::vector<std::string> expand_task_names(const std::vector<std::string>& names);

/// Throws InputError (a name; a directory without a task's file), and FormatError with file, line and field for a
/// document that is not what the task's file holds.
std::vector<Task> load_tasks(const TaskChoice& choice);

}  // namespace pq::tasks
