#include "tokenizer/normalizer.h"

#include <fmt/format.h>

#include <map>

#include "tokenizer/byte_level.h"

namespace pq {
namespace {

void strip(std::string& text, bool left, bool right, bool& keeps_start) {
  std::string_view rest = text;
  while (left && !rest.empty() && is_white_space(first_code_point(rest))) rest.remove_prefix(utf8_length(rest[0]));
  if (rest.size() != text.size()) keeps_start = false;
  while (right && !rest.empty() && is_white_space(first_code_point(last_character(rest)))) {
    rest.remove_suffix(last_character(rest).size());
  }
  text = std::string(rest);
}

void append_lower(char32_t c, std::string& out) { append_lower_case(out, c); }

void append_without_marks(char32_t c, std::string& out) {
  if (!is_mark(c)) append_utf8(out, c);
}

/// As the normalizer "Nmt": control characters go, rare white space becomes a blank.
void append_nmt(char32_t c, std::string& out) {
  const bool is_control =
      (c >= 0x1 && c <= 0x8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
  const bool is_blank = c == 0x9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
                        c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
  if (!is_control) append_utf8(out, is_blank ? U' ' : c);
}

void append_bytes(char32_t c, std::string& out) {
  std::string bytes;
  append_utf8(bytes, c);
  append_byte_level(out, bytes);
}

}  // namespace

std::string Normalizer::map(const Map& step, std::string_view text, bool& keeps_start) {
  std::string out;
  out.reserve(text.size());
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(utf8_length(rest[0]))) {
    step.append(first_code_point(rest), out);
    if (out.empty()) keeps_start = false;
  }
  return out;
}

Normalizer::Normalizer(const JsonFields& json) { add(json, 0); }

void Normalizer::add(const JsonFields& json, int depth) {
  static const std::map<std::string, NormalizationForm> forms = {{"NFC", NormalizationForm::nfc},
                                                                 {"NFD", NormalizationForm::nfd},
                                                                 {"NFKC", NormalizationForm::nfkc},
                                                                 {"NFKD", NormalizationForm::nfkd}};
  static const std::map<std::string, Map> maps = {{"Lowercase", {append_lower}},
                                                  {"StripAccents", {append_without_marks}},
                                                  {"Nmt", {append_nmt}},
                                                  {"ByteLevel", {append_bytes}}};
  const std::string type = json.string("type");
  if (type == "Sequence") {
    if (depth > 4) json.unsupported("sequences inside sequences deeper than 4");
    const std::size_t count = json.array("normalizers", max_steps).size();
    for (std::size_t i = 0; i < count; ++i) add(json.element("normalizers", i), depth + 1);
  } else if (type == "Prepend") {
    steps_.emplace_back(Prepend{json.string("prepend")});
  } else if (type == "Replace") {
    steps_.emplace_back(Replace{Pattern(json), json.string("content")});
  } else if (forms.contains(type)) {
    steps_.emplace_back(Form{forms.at(type)});
  } else if (maps.contains(type)) {
    steps_.emplace_back(maps.at(type));
  } else if (type == "Strip") {
    steps_.emplace_back(Strip{json.boolean("strip_left", true), json.boolean("strip_right", true)});
  } else {
    json.unsupported(
        fmt::format("normalizer type '{}' is not supported", type),
        "only Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Strip, StripAccents, Lowercase, Nmt, ByteLevel are");
  }
  if (steps_.size() > max_steps) json.unsupported(fmt::format("more than {} normalizers", max_steps));
}

std::string Normalizer::apply(std::string_view input, bool& keeps_start, const GrowthLimit& limit) const {
  std::string text(input);
  for (const auto& step : steps_) {
    if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!text.empty()) text.insert(0, prepend->prefix);
    } else if (const auto* replace = std::get_if<Replace>(&step)) {
      std::vector<Slice> slices;
      replace->pattern.find_all(text, slices);
      // The library aligns the new text with the last character that was replaced.
      const Slice& first = slices.front();
      if (first.is_match && first.end > 0 && (replace->content.empty() || first.end > utf8_length(text[0]))) {
        keeps_start = false;
      }
      text = replace_slices(text, slices, replace->content, limit);
    } else if (const auto* form = std::get_if<Form>(&step)) {
      text = unicode_normalize(text, form->form);
    } else if (const auto* ends = std::get_if<Strip>(&step)) {
      strip(text, ends->left, ends->right, keeps_start);
    } else if (const auto* characters = std::get_if<Map>(&step)) {
      text = map(*characters, text, keeps_start);
    }
    limit.check(text.size());
  }
  return text;
}

}  // namespace pq
