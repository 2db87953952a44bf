#include "tasks/prompts.h"

#include <fmt/format.h>

#include <algorithm>

#include "jinja/letter_case.h"
#include "jinja/text.h"
#include "tasks/python_text.h"

namespace pq::tasks {

Document choose(const JsonLine& line, std::string_view field, const std::vector<std::string>& choices,
                std::size_t gold) {
  Document document{.where = line.where(), .prompts = {}, .characters = {}, .gold = gold};
  for (const std::string& choice : choices) {
    if (choice.empty()) line.refuse(field, "has an empty choice, which no token stands for");
    document.prompts.push_back({"", " " + choice, std::string(field)});
    document.characters.push_back(count_characters(choice));
  }
  return document;
}

namespace {

Document with_context(Document document, const std::string& context) {
  for (Prompt& prompt : document.prompts) prompt.context = context;
  return document;
}

}  // namespace

Document piqa(const JsonLine& line) {
  const std::string goal = line.text("goal");
  Document document = choose(line, "sol1", {line.text("sol1")}, line.choice("label", 2));
  const Document second = choose(line, "sol2", {line.text("sol2")}, 0);
  document.prompts.push_back(second.prompts[0]);
  document.characters.push_back(second.characters[0]);
  return with_context(std::move(document), fmt::format("Question: {}\nAnswer:", goal));
}

Document arc(const JsonLine& line) {
  const std::vector<std::string> texts = line.texts("choices.text");
  const std::vector<std::string> labels = line.texts("choices.label");
  const std::string key = line.text("answerKey");
  if (texts.empty()) line.refuse("choices.text", "is empty");
  if (labels.size() != texts.size()) {
    line.refuse("choices.label", fmt::format("has {} labels for {} choices", labels.size(), texts.size()));
  }
  const auto gold = std::find(labels.begin(), labels.end(), key);
  if (gold == labels.end()) line.refuse("answerKey", fmt::format("is \"{}\", which labels no choice", key));
  return with_context(choose(line, "choices.text", texts, static_cast<std::size_t>(gold - labels.begin())),
                      fmt::format("Question: {}\nAnswer:", line.text("question")));
}

std::string clean_hellaswag(std::string_view raw) {
  std::string text = replace_all(strip(raw), " [title]", ". ");
  std::string without;  // what stands in brackets on one line: \[.*?\]
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t open = std::min(text.find('[', at), text.size());
    without.append(text, at, open - at);
    if (open == text.size()) break;
    const std::size_t end = text.find_first_of("]\n", open);
    if (end != std::string::npos && text[end] == ']') {
      at = end + 1;
    } else {
      without += '[';
      at = open + 1;
    }
  }
  return replace_all(without, "  ", " ");
}

Document hellaswag(const JsonLine& line) {
  const std::vector<std::string> endings = line.texts("endings");
  if (endings.empty()) line.refuse("endings", "is empty");
  const std::size_t gold = line.choice("label", endings.size());
  const std::string label = line.text("activity_label");
  if (!line.has("ctx_a") && line.has("ctx")) {
    return with_context(choose(line, "endings", endings, gold), label + ": " + line.text("ctx"));
  }
  std::vector<std::string> cleaned;
  for (const std::string& ending : endings) cleaned.push_back(clean_hellaswag(ending));
  jinja::Run run(line.where());
  const std::string context =
      fmt::format("{}: {} {}", label, line.text("ctx_a"), jinja::capitalize(run, line.text("ctx_b")));
  return with_context(choose(line, "endings", cleaned, gold), clean_hellaswag(context));
}

Document winogrande(const JsonLine& line) {
  const std::string sentence = line.text("sentence");
  const std::size_t blank = sentence.find('_');
  if (blank == std::string::npos) line.refuse("sentence", "has no \"_\" for the options");
  const std::string rest(strip(std::string_view(sentence).substr(blank + 1)));
  if (rest.empty()) line.refuse("sentence", "has nothing behind its \"_\", which no token stands for");
  const std::size_t gold = line.choice("answer", 2, 1);
  Document document = choose(line, "sentence", {rest, rest}, gold);
  for (std::size_t i = 0; i < 2; ++i) {
    document.prompts[i].context = sentence.substr(0, blank) + line.text(i == 0 ? "option1" : "option2");
  }
  return document;
}

Document lambada(const JsonLine& line) {
  const std::string text = line.text("text");
  const std::size_t space = text.rfind(' ');
  if (space == std::string::npos) line.refuse("text", "has no space before a last word");
  return with_context(choose(line, "text", {text.substr(space + 1)}, 0), text.substr(0, space));
}

}  // namespace pq::tasks
