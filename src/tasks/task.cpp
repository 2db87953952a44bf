#include "tasks/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/files.h"
#include "base/suggest.h"
#include "tasks/mmlu.h"
#include "tasks/prompts.h"
#include "tasks/wikitext.h"
#include "text/documents.h"

namespace pq::tasks {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view mmlu = "mmlu";
constexpr std::string_view mmlu_prefix = "mmlu_";
constexpr std::string_view mmlu_examples = "mmlu_dev.jsonl";

const TaskRow& row_named(std::string_view name) {
  const auto& rows = task_rows();
  return *std::find_if(rows.begin(), rows.end(), [&](const TaskRow& row) { return row.name == name; });
}

/// What a name stands for; empty for an unknown one.
std::vector<std::string> expand(std::string_view name) {
  std::vector<std::string> found;
  for (const TaskRow& row : task_rows()) {
    if (row.name != mmlu && (row.name == name || (name == "paper" && row.in_average))) found.emplace_back(row.name);
  }
  for (const MmluSubject& subject : mmlu_subjects()) {
    const std::string full = std::string(mmlu_prefix).append(subject.name);
    if (name == mmlu || name == full || name == std::string(mmlu_prefix).append(subject.group)) found.push_back(full);
  }
  return found;
}

std::vector<std::string> all_names() {
  std::vector<std::string> names{"paper"};
  for (const TaskRow& row : task_rows()) names.emplace_back(row.name);
  for (const std::string_view group : mmlu_groups()) names.push_back(std::string(mmlu_prefix).append(group));
  for (const MmluSubject& subject : mmlu_subjects()) names.push_back(std::string(mmlu_prefix).append(subject.name));
  return names;
}

[[noreturn]] void refuse_name(const std::string& name) {
  std::string remedy = did_you_mean(name, all_names());
  if (nearest(name, all_names()).empty()) {
    remedy = "known are paper, mmlu_SUBJECT, mmlu_GROUP";
    for (const TaskRow& row : task_rows()) remedy += fmt::format(", {}", row.name);
  }
  throw InputError("--tasks", fmt::format("\"{}\" is no task", name), remedy);
}

/// Reads each file once.
class Loader {
 public:
  explicit Loader(const TaskChoice& choice) : choice_(choice) {}

  Task load(const std::string& name) {
    if (name.starts_with(mmlu_prefix)) return load_subject(name);
    const TaskRow& row = row_named(name);
    if (row.scoring == Scoring::pages) return load_pages(row);
    Task task{name, &row, {}, path_of(row.file, name), {}};
    for (const JsonLine& line : lines_of(task.file)) {
      if (full(task)) break;
      task.documents.push_back(row.document(line));
    }
    return task;
  }

 private:
  bool full(const Task& task) const {
    return choice_.limit > 0 && static_cast<std::int64_t>(task.documents.size()) >= choice_.limit;
  }

  fs::path path_of(std::string_view file, std::string_view task) const {
    fs::path path = choice_.directory / file;
    if (!fs::is_directory(choice_.directory)) {
      throw InputError(choice_.directory.string(), "is no directory of task files",
                       "give it with --tasks-dir; scripts/fetch-tasks.py writes one");
    }
    if (!fs::exists(path)) {
      throw InputError(choice_.directory.string(), fmt::format("has no {}, which the task {} reads", file, task),
                       "write it with scripts/fetch-tasks.py, or leave the task out");
    }
    return path;
  }

  const std::vector<JsonLine>& lines_of(const fs::path& path) {
    const auto found = lines_.find(path);
    return found != lines_.end() ? found->second : lines_.emplace(path, read_json_lines(path)).first->second;
  }

  std::vector<const JsonLine*> lines_of_subject(const fs::path& path, std::string_view subject) {
    auto& by_subject = by_subject_[path];
    if (by_subject.empty()) {
      for (const JsonLine& line : lines_of(path)) by_subject[line.text("subject")].push_back(&line);
    }
    const auto& lines = by_subject[std::string(subject)];
    if (lines.empty()) {
      throw FormatError(path.string(), fmt::format("has no line whose field `subject` is {}", subject),
                        "fetch the file again, or leave the subject out");
    }
    return lines;
  }

  Task load_subject(const std::string& name) {
    const TaskRow& row = row_named(mmlu);
    Task task{name, &row, name.substr(mmlu_prefix.size()), path_of(row.file, name), {}};
    std::vector<const JsonLine*> shots;
    if (choice_.mmlu_shots > 0) {
      const fs::path examples = path_of(mmlu_examples, name);
      shots = lines_of_subject(examples, task.subject);
      const auto wanted = static_cast<std::size_t>(choice_.mmlu_shots);
      if (shots.size() < wanted) {
        throw FormatError(examples.string(),
                          fmt::format("has {} examples of {}, not {}", shots.size(), task.subject, wanted),
                          "fetch the file again");
      }
      shots.resize(wanted);
      task.further_files.push_back(examples);
    }
    const std::string head = mmlu_head(task.subject, shots);
    for (const JsonLine* line : lines_of_subject(task.file, task.subject)) {
      if (full(task)) break;
      task.documents.push_back(mmlu_document(*line, head));
    }
    return task;
  }

  Task load_pages(const TaskRow& row) const {
    fs::path path = choice_.wikitext;
    if (path.empty() && fs::exists(choice_.directory / "wikitext.jsonl")) path = choice_.directory / "wikitext.jsonl";
    if (path.empty()) path = path_of(row.file, row.name);
    Task task{std::string(row.name), &row, {}, path, {}};
    if (path.extension() == ".jsonl") {
      for (const JsonLine& line : read_json_lines(path)) {
        if (!full(task)) task.documents.push_back(wikitext_document(line.where(), line.text("page")));
      }
    } else {
      const std::string raw = read_text_file(path);
      require_utf8(raw, path.string());
      for (const std::string& page : wikitext_pages(raw)) {
        if (full(task)) break;
        std::string where = fmt::format("{}, page {}", path.string(), task.documents.size() + 1);
        task.documents.push_back(wikitext_document(std::move(where), page));
      }
    }
    if (task.documents.empty()) throw FormatError(path.string(), "holds no page", "give a raw WikiText file");
    return task;
  }

  const TaskChoice& choice_;
  std::map<fs::path, std::vector<JsonLine>> lines_;
  std::map<fs::path, std::map<std::string, std::vector<const JsonLine*>>> by_subject_;
};

}  // namespace

const std::vector<TaskRow>& task_rows() {
  static const std::vector<TaskRow> rows{
      {"piqa", "piqa.jsonl", Scoring::choices, true, true, piqa},
      {"arc_easy", "arc_easy.jsonl", Scoring::choices, true, true, arc},
      {"arc_challenge", "arc_challenge.jsonl", Scoring::choices, true, true, arc},
      {"hellaswag", "hellaswag.jsonl", Scoring::choices, true, true, hellaswag},
      {"winogrande", "winogrande.jsonl", Scoring::choices, false, true, winogrande},
      {"mmlu", "mmlu_test.jsonl", Scoring::choices, false, false, nullptr},
      {"lambada_openai", "lambada.jsonl", Scoring::last_word, false, false, lambada},
      {"wikitext", "wiki.test.raw", Scoring::pages, false, false, nullptr},
  };
  return rows;
}

std::vector<std::string> expand_task_names(const std::vector<std::string>& names) {
  std::vector<std::string> all;
  for (const std::string& name : names) {
    const std::vector<std::string> expanded = expand(name);
    if (expanded.empty()) refuse_name(name);
    std::copy_if(expanded.begin(), expanded.end(), std::back_inserter(all),
                 [&](const std::string& one) { return std::find(all.begin(), all.end(), one) == all.end(); });
  }
  return all;
}

std::vector<Task> load_tasks(const TaskChoice& choice) {
  Loader loader(choice);
  std::vector<Task> tasks;
  for (const std::string& name : expand_task_names(choice.names)) tasks.push_back(loader.load(name));
  return tasks;
}

}  // namespace pq::tasks
