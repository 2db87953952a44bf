#include "tokenizer/pattern.h"

#include <algorithm>

#include "text/unicode.h"

namespace pq {
namespace {

constexpr std::size_t growth_factor = 16;
constexpr std::size_t growth_base = std::size_t{1} << 20;

std::variant<std::string, Regex> read_pattern(const JsonFields& owner) {
  const JsonFields pattern = owner.object("pattern");
  if (pattern.find("Regex") != nullptr) return Regex(pattern.string("Regex"), owner.file());
  std::string text = pattern.string("String");
  if (text.empty()) return Regex("", owner.file());  // which matches between all characters
  return text;
}

}  // namespace

void find_literal(std::string_view literal, std::string_view text, std::vector<Slice>& slices) {
  std::size_t covered = 0;
  for (std::size_t at = text.find(literal); at != std::string_view::npos; at = text.find(literal, covered)) {
    if (covered != at) slices.push_back({covered, at, false});
    covered = at + literal.size();
    slices.push_back({at, covered, true});
  }
  if (covered != text.size() || text.empty()) slices.push_back({covered, text.size(), false});
}

GrowthLimit::GrowthLimit(std::size_t input_bytes, std::string_view where)
    : allowed_(growth_base + growth_factor * input_bytes), where_(where) {}

void GrowthLimit::add_input(std::size_t bytes) { allowed_ += growth_factor * bytes; }

void GrowthLimit::check(std::size_t bytes) const {
  if (bytes > allowed_)
    throw UnsupportedError(where_, "its steps make a short text too long",
                           "check the file's Replace and Prepend steps");
}

Pattern::Pattern(const JsonFields& owner) : pattern_(read_pattern(owner)) {}

void Pattern::find_all(std::string_view text, std::vector<Slice>& slices) const {
  if (const auto* literal = std::get_if<std::string>(&pattern_)) {
    find_literal(*literal, text, slices);
  } else {
    std::get<Regex>(pattern_).find_all(text, slices);
  }
}

std::string replace_slices(std::string_view text, const std::vector<Slice>& slices, std::string_view content,
                           const GrowthLimit& limit) {
  std::string out;
  out.reserve(text.size());
  for (const Slice& slice : slices) {
    out += slice.is_match ? content : text.substr(slice.begin, slice.end - slice.begin);
    limit.check(out.size());
  }
  return out;
}

bool Pattern::is_one_character() const {
  const auto* literal = std::get_if<std::string>(&pattern_);
  return literal != nullptr && utf8_length((*literal)[0]) == literal->size();
}

}  // namespace pq
