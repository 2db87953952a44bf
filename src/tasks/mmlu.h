#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tasks/document.h"
#include "tasks/json_lines.h"

namespace pq::tasks {

/// A subject of MMLU and the group that it counts for.
struct MmluSubject {
  std::string_view name;
  std::string_view group;
};
/// All 57, in the order of their names. Source: lm-evaluation-harness, tasks/mmlu/_generate_configs.py.
const std::vector<MmluSubject>& mmlu_subjects();
/// "stem", "other", "social_sciences", "humanities".
const std::vector<std::string_view>& mmlu_groups();

/// What stands in front of every question of a subject: the description and the examples `shots`, each with its answer.
/// Throws what JsonLine throws.
std::string mmlu_head(std::string_view subject, const std::vector<const JsonLine*>& shots);
/// Throws what JsonLine throws.
Document mmlu_document(const JsonLine& line, const std::string& head);

}  // namespace pq::tasks
