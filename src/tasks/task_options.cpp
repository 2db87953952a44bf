#include "tasks/task_options.h"

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace pq::tasks {

void TaskOptions::add_options(CLI::App& app) {
  const std::string group = "Tasks, as lm-evaluation-harness scores them";
  app.add_option("--tasks", names,
                 "piqa, arc_easy, arc_challenge, hellaswag, winogrande (together: paper), mmlu, mmlu_SUBJECT, "
                 "mmlu_GROUP, lambada_openai, wikitext")
      ->delimiter(',')
      ->option_text("LIST")
      ->group(group);
  app.add_option("--tasks-dir", directory, "Directory of the tasks' files, as scripts/fetch-tasks.py writes it")
      ->option_text("DIR")
      ->group(group);
  app.add_option("--mmlu-shots", mmlu_shots,
                 "Examples in front of each question of MMLU, the first ones of its dev file")
      ->option_text("0|5 (default 0)")
      ->check(CLI::IsMember({0, 5}))
      ->group(group);
  app.add_option(
         "--bos", bos,
         "BOS in front of each prompt of a task: auto: where the tokenizer adds one, as the harness since 0.4.9.2; "
         "no: as before, and in papers of that time")
      ->option_text("auto|yes|no (default auto)")
      ->check(CLI::IsMember({"auto", "yes", "no"}))
      ->group(group);
  app.add_option("--limit", limit, "Only the first N documents of each task, of each subject of MMLU (default: all)")
      ->option_text("N")
      ->check(CLI::PositiveNumber)
      ->group(group);
  app.add_option("--output", output, "Write a JSON record of the run into DIR")->option_text("DIR")->group(group);
  app.add_flag("--log-samples", log_samples,
               "With --output: a line for each document too, with log-likelihoods, choice and gold")
      ->group(group);
}

void TaskOptions::check() const {
  if (!requested()) {
    const std::string remedy = "say which tasks with --tasks";
    if (!directory.empty()) throw InputError("--tasks-dir", "is for tasks, but none was asked for", remedy);
    if (!output.empty()) throw InputError("--output", "records tasks, but none was asked for", remedy);
    if (limit > 0) throw InputError("--limit", "is for tasks, but none was asked for", remedy);
  }
  if (log_samples && output.empty()) {
    throw InputError("--log-samples", "has no place to write to", "give a directory with --output DIR");
  }
  if (!requested()) return;
  expand_task_names(names);
  if (directory.empty()) {
    throw InputError("--tasks", "needs the files of the tasks",
                     "give their directory with --tasks-dir DIR; scripts/fetch-tasks.py writes one");
  }
}

Bos TaskOptions::bos_rule() const { return bos == "auto" ? Bos::automatic : bos == "yes" ? Bos::yes : Bos::no; }

TaskChoice TaskOptions::choice(const std::string& text) const {
  return {.names = names, .directory = directory, .mmlu_shots = mmlu_shots, .limit = limit, .wikitext = text};
}

}  // namespace pq::tasks
