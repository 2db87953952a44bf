#include "report/model_card.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "report/escape.h"

namespace pq::report {
namespace {

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  text = text.substr(first, text.find_last_not_of(" \t\r") + 1 - first);
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front())
    text = text.substr(1, text.size() - 2);
  return text;
}

bool is_plain(std::string_view text, std::size_t longest) {
  return !text.empty() && text.size() <= longest && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
           c == '_';
  });
}

void add_languages(std::string_view list, std::vector<std::string>& languages) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    const std::string_view one = trimmed(list.substr(0, comma));
    if (is_plain(one, 8) && languages.size() < 200) languages.emplace_back(one);
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

std::string front_matter(const ModelCard& card) {
  std::string out = "---\n";
  out += fmt::format("license: {}\n", card.base.license.empty() ? "unknown" : card.base.license);
  if (!card.base.license_name.empty()) out += fmt::format("license_name: {}\n", quote_yaml(card.base.license_name));
  if (!card.base.languages.empty()) {
    out += "language:\n";
    // Quoted: "no" is a truth value of YAML.
    for (const std::string& language : card.base.languages) out += fmt::format("- {}\n", quote_yaml(language));
  }
  if (!card.base_model.empty())
    out += fmt::format("base_model: {}\nbase_model_relation: quantized\n", quote_yaml(card.base_model));
  out += "library_name: prefixquant\npipeline_tag: text-generation\ntags:\n- prefixquant\n- quantized\n";
  out += fmt::format("- {}\n", quote_yaml(card.recipe));
  return out + "---\n";
}

/// Text as code, whatever it holds: in a fence longer than any run of backticks in it.
std::string fenced(std::string_view text, std::string_view language) {
  std::size_t longest = 2;
  std::size_t run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fmt::format("{}{}\n{}\n{}\n", fence, language, text, fence);
}

}  // namespace

HubFacts hub_facts(std::string_view readme) {
  HubFacts facts;
  if (readme.starts_with("\xEF\xBB\xBF")) readme.remove_prefix(3);
  if (trimmed(take_line(readme)) != "---") return facts;
  bool closed = false;
  std::string_view key;
  while (!readme.empty() && !closed) {
    const std::string_view line = take_line(readme);
    closed = trimmed(line) == "---";
    if (line.starts_with('-') || line.starts_with("  -")) {
      const std::string_view item = line.substr(line.find('-') + 1);
      if (key == "language" && !closed) add_languages(item, facts.languages);
      continue;
    }
    const std::size_t colon = line.find(':');
    if (line.empty() || line.front() == ' ' || line.front() == '#' || colon == std::string_view::npos) continue;
    key = line.substr(0, colon);
    std::string_view value = trimmed(line.substr(colon + 1));
    if (key == "license" && is_plain(value, 60)) facts.license = value;
    if (key == "license_name" && is_plain(value, 100)) facts.license_name = value;
    if (key == "language") {
      if (value.starts_with('[') && value.ends_with(']')) value = value.substr(1, value.size() - 2);
      add_languages(value, facts.languages);
    }
  }
  return closed ? facts : HubFacts{};
}

std::string to_markdown(const ModelCard& card) {
  std::string out = front_matter(card);
  const std::size_t slash = card.base_model.find('/');
  const bool links = slash != std::string::npos && is_plain(std::string_view(card.base_model).substr(0, slash), 100) &&
                     is_plain(std::string_view(card.base_model).substr(slash + 1), 100);
  const std::string base = card.base_model.empty() ? "A model" : escape_markdown(card.base_model);
  const std::string of = links ? fmt::format("[{}](https://huggingface.co/{})", base, card.base_model) : base;
  out += fmt::format("\n# {}\n\n{} quantized to {} by {}.\n", escape_markdown(card.name), of,
                     escape_markdown(card.precision), escape_markdown(card.program));
  out += fmt::format("\n## Recipe\n\n**{}**: {}.\n\n", escape_markdown(card.recipe),
                     escape_markdown(card.recipe_in_words));
  if (card.prefix_text.empty()) {
    out += "No prefix.\n";
  } else {
    out += fmt::format(
        "Every sequence begins with a fixed prefix, whose keys and values are stored with the model (token ids "
        "{}):\n\n",
        fmt::join(card.prefix_token_ids, ", "));
    out += fenced(visible_text(card.prefix_text), "text");
  }
  out += fmt::format("\nCalibrated on {}.\n", card.calibration == "self" ? "text that the model sampled itself"
                                                                         : escape_markdown(card.calibration));
  if (!card.command.empty()) out += "\nMade with:\n\n" + fenced(visible_text(card.command), "sh");
  if (!card.sizes.rows.empty()) out += "\n## Size\n\n" + to_markdown(card.sizes);
  if (!card.measured.rows.empty()) out += "\n## Measured\n\n" + to_markdown(card.measured);
  if (!card.commands.empty()) {
    std::string commands;
    for (const std::string& command : card.commands) commands += (commands.empty() ? "" : "\n") + visible_text(command);
    out += "\n## Use\n\n" + fenced(commands, "sh");
  }
  return out;
}

}  // namespace pq::report
