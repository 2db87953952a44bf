#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pq {

/// A verb of the `pq` command, as the help lists it. Which of the two programs runs it is not the user's business.
struct VerbRow {
  std::string_view name;
  std::string_view summary;
  bool needs_lab;                  ///< runs in pq-lab
  bool several_processes = false;  ///< shares its work between the processes of an mpirun
};
const std::vector<VerbRow>& verbs();

/// The row of that name; null without one.
const VerbRow* find_verb(std::string_view name);

/// "a, b and c": those that share their work.
std::string verbs_of_several_processes();

/// What `pq --help` shows.
std::string overview();

}  // namespace pq
