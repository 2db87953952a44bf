#include "tasks/mmlu.h"

#include <fmt/format.h>

#include <array>

#include "tasks/prompts.h"
#include "tasks/python_text.h"

namespace pq::tasks {
namespace {

constexpr std::array<std::string_view, 4> letters{"A", "B", "C", "D"};

std::size_t answer(const JsonLine& line) { return line.choice("answer", letters.size()); }

std::string question(const JsonLine& line) {
  const std::vector<std::string> choices = line.texts("choices");
  if (choices.size() != letters.size()) line.refuse("choices", fmt::format("has {} choices, not 4", choices.size()));
  std::string text(strip(line.text("question")));
  for (std::size_t i = 0; i < letters.size(); ++i) text += fmt::format("\n{}. {}", letters[i], choices[i]);
  return text + "\nAnswer:";
}

}  // namespace

const std::vector<MmluSubject>& mmlu_subjects() {
  static const std::vector<MmluSubject> subjects{{"abstract_algebra", "stem"},
                                                 {"anatomy", "stem"},
                                                 {"astronomy", "stem"},
                                                 {"business_ethics", "other"},
                                                 {"clinical_knowledge", "other"},
                                                 {"college_biology", "stem"},
                                                 {"college_chemistry", "stem"},
                                                 {"college_computer_science", "stem"},
                                                 {"college_mathematics", "stem"},
                                                 {"college_medicine", "other"},
                                                 {"college_physics", "stem"},
                                                 {"computer_security", "stem"},
                                                 {"conceptual_physics", "stem"},
                                                 {"econometrics", "social_sciences"},
                                                 {"electrical_engineering", "stem"},
                                                 {"elementary_mathematics", "stem"},
                                                 {"formal_logic", "humanities"},
                                                 {"global_facts", "other"},
                                                 {"high_school_biology", "stem"},
                                                 {"high_school_chemistry", "stem"},
                                                 {"high_school_computer_science", "stem"},
                                                 {"high_school_european_history", "humanities"},
                                                 {"high_school_geography", "social_sciences"},
                                                 {"high_school_government_and_politics", "social_sciences"},
                                                 {"high_school_macroeconomics", "social_sciences"},
                                                 {"high_school_mathematics", "stem"},
                                                 {"high_school_microeconomics", "social_sciences"},
                                                 {"high_school_physics", "stem"},
                                                 {"high_school_psychology", "social_sciences"},
                                                 {"high_school_statistics", "stem"},
                                                 {"high_school_us_history", "humanities"},
                                                 {"high_school_world_history", "humanities"},
                                                 {"human_aging", "other"},
                                                 {"human_sexuality", "social_sciences"},
                                                 {"international_law", "humanities"},
                                                 {"jurisprudence", "humanities"},
                                                 {"logical_fallacies", "humanities"},
                                                 {"machine_learning", "stem"},
                                                 {"management", "other"},
                                                 {"marketing", "other"},
                                                 {"medical_genetics", "other"},
                                                 {"miscellaneous", "other"},
                                                 {"moral_disputes", "humanities"},
                                                 {"moral_scenarios", "humanities"},
                                                 {"nutrition", "other"},
                                                 {"philosophy", "humanities"},
                                                 {"prehistory", "humanities"},
                                                 {"professional_accounting", "other"},
                                                 {"professional_law", "humanities"},
                                                 {"professional_medicine", "other"},
                                                 {"professional_psychology", "social_sciences"},
                                                 {"public_relations", "social_sciences"},
                                                 {"security_studies", "social_sciences"},
                                                 {"sociology", "social_sciences"},
                                                 {"us_foreign_policy", "social_sciences"},
                                                 {"virology", "other"},
                                                 {"world_religions", "humanities"}};
  return subjects;
}

const std::vector<std::string_view>& mmlu_groups() {
  static const std::vector<std::string_view> groups{"stem", "other", "social_sciences", "humanities"};
  return groups;
}

std::string mmlu_head(std::string_view subject, const std::vector<const JsonLine*>& shots) {
  std::string head = fmt::format("The following are multiple choice questions (with answers) about {}.\n\n",
                                 replace_all(subject, "_", " "));
  for (const JsonLine* shot : shots) head += fmt::format("{} {}\n\n", question(*shot), letters[answer(*shot)]);
  return head;
}

Document mmlu_document(const JsonLine& line, const std::string& head) {
  Document document = choose(line, "choices", {letters.begin(), letters.end()}, answer(line));
  const std::string context = head + question(line);
  for (Prompt& prompt : document.prompts) prompt.context = context;
  return document;
}

}  // namespace pq::tasks
