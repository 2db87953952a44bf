#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pq::cli {

/// A text being typed: keys in as a terminal sends them, the text and the cursor out. Knows nothing of the terminal, so
/// that it can be tested without one.
class LineBuffer {
 public:
  enum class State {
    typing,
    entered,      ///< Enter
    ended,        ///< Ctrl-D on an empty line
    interrupted,  ///< Ctrl-C
    suspended,    ///< Ctrl-Z; typing goes on afterwards
  };

  /// Takes bytes until one ends the line; the rest stays for the next line. A paste (between ESC [200~ and ESC [201~)
  /// becomes text as a whole, with its line ends as "\n"; Alt-Enter is a line end too.
  State feed(std::string_view bytes);
  /// Begins a line with what feed() has left; `line` goes to the history when it is not empty.
  State next_line();

  const std::string& text() const noexcept { return text_; }
  /// In bytes, at a character's beginning.
  std::size_t cursor() const noexcept { return cursor_; }

 private:
  State consume();
  /// Bytes of the key at the front of pending_, 0 while it is not whole.
  std::size_t key_size() const;
  State press(std::string_view key);
  bool edit_key(std::string_view key);
  void paste(std::string_view text);
  void insert(std::string_view text);
  void erase(std::size_t begin, std::size_t end);
  std::size_t before(std::size_t at) const;
  std::size_t after(std::size_t at) const;
  std::size_t word_before() const;
  std::size_t line_begin() const;
  std::size_t line_end() const;
  void recall(std::size_t index);

  std::string text_;
  std::size_t cursor_ = 0;
  std::string pending_;
  bool pasting_ = false;
  std::vector<std::string> history_;
  std::size_t recalled_ = 0;  // history_.size(): the line that is being written
  std::string unfinished_;    // that line, while another is recalled
};

/// What draws `text` behind `prompt` on a terminal of `columns`, and where the cursor comes to stand.
struct Drawing {
  std::string text;
  std::size_t rows;        ///< from the first to the last
  std::size_t cursor_row;  ///< from the first
  std::size_t cursor_column;
};
Drawing draw_line(std::string_view prompt, std::string_view text, std::size_t cursor, std::size_t columns);

/// Reads lines from the terminal at stdin and stderr.
class LineEditor {
 public:
  /// Whether stdin and stderr are a terminal that can be drawn on (TERM is not "dumb").
  static bool possible();
  /// Until the end of its life the terminal marks what is pasted and shows no keys but those that read() draws; keys
  /// pressed between two calls wait for the next.
  explicit LineEditor(std::string prompt);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// entered, ended or interrupted, the latter also when a signal came. Throws SystemError.
  LineBuffer::State read(std::string& line);

 private:
  void show();
  void leave();

  std::string prompt_;
  LineBuffer buffer_;
  std::size_t cursor_row_ = 0;  // where the cursor stands below the prompt
  std::size_t last_row_ = 0;
};

}  // namespace pq::cli
