#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tasks/request.h"
#include "tasks/task.h"

namespace CLI {
class App;
}

namespace pq::tasks {

/// The flags of verbs that evaluate tasks.
struct TaskOptions {
  std::vector<std::string> names;
  std::string directory;
  std::string bos = "auto";
  int mmlu_shots = 0;
  std::int64_t limit = 0;
  std::string output;
  bool log_samples = false;

  void add_options(CLI::App& app);
  bool requested() const { return !names.empty(); }
  /// Throws InputError for flags that say nothing without --tasks or --output, or tasks without --tasks-dir.
  void check() const;
  Bos bos_rule() const;
  TaskChoice choice(const std::string& text) const;
};

}  // namespace pq::tasks
