#include <algorithm>
#include <array>
#include <utility>

#include "base/display_width.h"
#include "cli/line_editor.h"
#include "text/unicode.h"

namespace pq::cli {
namespace {

constexpr std::string_view paste_begin = "\033[200~";
constexpr std::string_view paste_end = "\033[201~";

/// The character at `at` and the combining marks behind it end here.
std::size_t character_end(std::string_view text, std::size_t at) {
  if (at >= text.size()) return text.size();
  std::size_t end = at + utf8_length(text[at]);
  while (end < text.size() && utf8_length(text[end]) > 1 &&
         display_width(text.substr(end, utf8_length(text[end]))) == 0)
    end += utf8_length(text[end]);
  return std::min(end, text.size());
}

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t'; }

/// A control character shows as one column.
std::string_view shown(std::string_view character) {
  return static_cast<unsigned char>(character[0]) < 0x20 || character[0] == 0x7f ? std::string_view("?") : character;
}

}  // namespace

LineBuffer::State LineBuffer::feed(std::string_view bytes) {
  pending_ += bytes;
  return consume();
}

LineBuffer::State LineBuffer::next_line() {
  if (!text_.empty() && (history_.empty() || history_.back() != text_)) history_.push_back(text_);
  text_.clear();
  cursor_ = 0;
  recalled_ = history_.size();
  return consume();
}

LineBuffer::State LineBuffer::consume() {
  while (!pending_.empty()) {
    if (pasting_) {
      const std::size_t end = pending_.find(paste_end);
      if (end == std::string::npos) return State::typing;
      paste(pending_.substr(0, end));
      pending_.erase(0, end + paste_end.size());
      pasting_ = false;
      continue;
    }
    const std::size_t size = key_size();
    if (size == 0) break;
    const std::string key = pending_.substr(0, size);
    pending_.erase(0, size);
    if (const State state = press(key); state != State::typing) return state;
  }
  return State::typing;
}

std::size_t LineBuffer::key_size() const {
  const std::string_view bytes = pending_;
  if (bytes[0] != '\033') {
    const Utf8Sequence sequence = first_utf8_sequence(bytes);
    return sequence.state == Utf8State::incomplete ? 0 : sequence.length;
  }
  if (bytes.size() < 2) return 0;
  if (bytes[1] == 'O') return bytes.size() < 3 ? 0 : 3;
  if (bytes[1] != '[') return 2;
  const auto final = std::find_if(bytes.begin() + 2, bytes.end(), [](char c) { return c >= 0x40 && c <= 0x7e; });
  return final == bytes.end() ? 0 : static_cast<std::size_t>(final - bytes.begin()) + 1;
}

LineBuffer::State LineBuffer::press(std::string_view key) {
  if (key == "\r" || key == "\n") return State::entered;
  if (key == "\x03") return State::interrupted;
  if (key == "\x1a") return State::suspended;
  if (key == "\x04" && text_.empty()) return State::ended;
  if (key == paste_begin) {
    pasting_ = true;
  } else if (!edit_key(key) && key[0] != '\033' && static_cast<unsigned char>(key[0]) >= 0x20) {
    insert(first_utf8_sequence(key).state == Utf8State::complete ? key : replacement_character);
  }
  return State::typing;
}

bool LineBuffer::edit_key(std::string_view key) {
  const auto is = [key](std::initializer_list<std::string_view> keys) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  if (is({"\033\r", "\033\n"})) {
    insert("\n");
  } else if (is({"\t"})) {
    insert("\t");
  } else if (is({"\x7f", "\b"})) {
    erase(before(cursor_), cursor_);
  } else if (is({"\x04", "\033[3~"})) {
    erase(cursor_, after(cursor_));
  } else if (is({"\x17", "\033\x7f"})) {
    erase(word_before(), cursor_);
  } else if (is({"\x15"})) {
    erase(line_begin(), cursor_);
  } else if (is({"\x0b"})) {
    erase(cursor_, line_end());
  } else if (is({"\033[D", "\033OD", "\x02"})) {
    cursor_ = before(cursor_);
  } else if (is({"\033[C", "\033OC", "\x06"})) {
    cursor_ = after(cursor_);
  } else if (is({"\033[1;5D", "\033b"})) {
    cursor_ = word_before();
  } else if (is({"\033[H", "\033OH", "\033[1~", "\x01"})) {
    cursor_ = line_begin();
  } else if (is({"\033[F", "\033OF", "\033[4~", "\x05"})) {
    cursor_ = line_end();
  } else if (is({"\033[A", "\033OA", "\x10"})) {
    if (recalled_ > 0) recall(recalled_ - 1);
  } else if (is({"\033[B", "\033OB", "\x0e"})) {
    if (recalled_ < history_.size()) recall(recalled_ + 1);
  } else {
    return false;
  }
  return true;
}

void LineBuffer::paste(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const Utf8Sequence sequence = first_utf8_sequence(text);
    const char lead = text[0];
    if (lead == '\r') {
      if (!text.starts_with("\r\n")) clean += '\n';
    } else if (sequence.state != Utf8State::complete) {
      clean += replacement_character;
    } else if (static_cast<unsigned char>(lead) >= 0x20 || lead == '\n' || lead == '\t') {
      clean += text.substr(0, sequence.length);
    }
    text.remove_prefix(sequence.length);
  }
  insert(clean);
}

void LineBuffer::insert(std::string_view text) {
  text_.insert(cursor_, text);
  cursor_ += text.size();
}

void LineBuffer::erase(std::size_t begin, std::size_t end) {
  text_.erase(begin, end - begin);
  cursor_ = begin;
}

std::size_t LineBuffer::after(std::size_t at) const { return character_end(text_, at); }

std::size_t LineBuffer::before(std::size_t at) const {
  std::size_t begin = 0;
  for (std::size_t next = after(begin); next < at; next = after(begin)) begin = next;
  return at == 0 ? 0 : begin;
}

std::size_t LineBuffer::word_before() const {
  std::size_t at = cursor_;
  while (at > 0 && is_blank(text_[at - 1])) --at;
  while (at > 0 && !is_blank(text_[at - 1])) --at;
  return at;
}

std::size_t LineBuffer::line_begin() const {
  const std::size_t newline = cursor_ == 0 ? std::string::npos : text_.rfind('\n', cursor_ - 1);
  return newline == std::string::npos ? 0 : newline + 1;
}

std::size_t LineBuffer::line_end() const { return std::min(text_.find('\n', cursor_), text_.size()); }

void LineBuffer::recall(std::size_t index) {
  if (recalled_ == history_.size()) unfinished_ = text_;
  recalled_ = index;
  text_ = index == history_.size() ? unfinished_ : history_[index];
  cursor_ = text_.size();
}

Drawing draw_line(std::string_view prompt, std::string_view text, std::size_t cursor, std::size_t columns) {
  Drawing drawing{std::string(prompt), 0, 0, 0};
  std::size_t column = display_width(prompt);
  std::size_t row = 0;
  const auto new_row = [&] {
    drawing.text += "\r\n";
    column = 0;
    ++row;
  };
  for (std::size_t at = 0;;) {
    if (at == cursor) {
      if (column >= columns) new_row();
      drawing.cursor_row = row;
      drawing.cursor_column = column;
    }
    if (at >= text.size()) break;
    const std::size_t end = character_end(text, at);
    const std::string_view character = text.substr(at, end - at);
    at = end;
    if (character == "\n") {
      new_row();
      continue;
    }
    const std::string_view visible = shown(character);
    const std::size_t width = display_width(visible);
    // A wide character does not fit into the last column: terminals move it to the next row as a whole.
    if (column + width > columns) new_row();
    drawing.text += visible;
    column += width;
  }
  drawing.rows = row + 1;
  return drawing;
}

}  // namespace pq::cli
