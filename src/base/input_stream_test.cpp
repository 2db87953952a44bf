#include "base/input_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/files.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

/// A pipe that `text` is written into, piece by piece.
class Writer {
 public:
  explicit Writer(const std::vector<std::string>& pieces) {
    if (::pipe(ends_.data()) != 0) throw_errno("pipe", "cannot be made");
    thread_ = std::thread([this, pieces] {
      for (const std::string& piece : pieces) {
        std::size_t written = 0;
        while (written < piece.size())
          written += static_cast<std::size_t>(::write(ends_[1], piece.data() + written, piece.size() - written));
      }
      ::close(ends_[1]);
    });
  }
  ~Writer() {
    thread_.join();
    ::close(ends_[0]);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  int fd() const { return ends_[0]; }

 private:
  std::array<int, 2> ends_{};
  std::thread thread_;
};

std::vector<std::string> lines_of(const std::vector<std::string>& pieces) {
  const Writer writer(pieces);
  LineReader reader(writer.fd(), "pipe");
  std::vector<std::string> lines;
  for (std::string line; reader.next(line);) lines.push_back(line);
  EXPECT_EQ(reader.count(), lines.size());
  return lines;
}

TEST(LineReader, LeavesOutTheEndsOfEverySystem) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(lines_of({}), Lines{});
  EXPECT_EQ(lines_of({"a\nb\n"}), (Lines{"a", "b"}));
  EXPECT_EQ(lines_of({"a\r\nb\r\n\r\nc\r"}), (Lines{"a", "b", "", "c"}));
  EXPECT_EQ(lines_of({"a\rb\r\r\n"}), (Lines{"a\rb\r"}));  // a carriage return within a line is the text's
  EXPECT_EQ(lines_of({"\xef\xbb\xbf", "a\r", "\n\xef\xbb\xbf"}), (Lines{"a", "\xef\xbb\xbf"}));
  EXPECT_EQ(lines_of({std::string(1 << 20, 'x'), "y\n", "z"}), (Lines{std::string(1 << 20, 'x') + "y", "z"}));
  EXPECT_EQ(lines_of({std::string("a\0b\n", 4)}), (Lines{std::string("a\0b", 3)}));
}

TEST(LineReader, KnowsWhetherALineIsThere) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  LineReader reader(ends[0], "pipe");
  EXPECT_FALSE(reader.has_line());
  ASSERT_EQ(::write(ends[1], "a\nb", 3), 3);
  std::string line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(reader.place(), "pipe, line 1");
  EXPECT_FALSE(reader.has_line());
  ::close(ends[1]);
  EXPECT_TRUE(reader.next(line));
  EXPECT_EQ(line, "b");
  EXPECT_TRUE(reader.has_line());
  EXPECT_FALSE(reader.next(line));
  ::close(ends[0]);
}

TEST(LineReader, AFailingReadIsAnErrorAndNotTheEnd) {
  const int folder = ::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  std::string line;
  try {
    LineReader(folder, "stdin").next(line);
    FAIL();
  } catch (const SystemError& error) {
    EXPECT_STREQ(error.what(), "stdin: cannot read: Is a directory; check what it is connected to");
  }
  ::close(folder);
}

TEST(InputStream, APipeIsReadLikeAFile) {
  const fs::path path = fs::path(testing::TempDir()) / "pq_fifo";
  fs::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const std::string text(300'000, 'x');
  for (int i = 0; i < 2; ++i) {
    std::thread writer([&] { std::ofstream(path) << text; });
    EXPECT_EQ(i == 0 ? read_text_file(path) : read_bytes(path), text);
    writer.join();
  }
  fs::remove(path);
  EXPECT_THROW(read_text_file(path), InputError);
  EXPECT_THROW(read_text_file(path / "below"), InputError);
  try {
    read_text_file(testing::TempDir());
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("is a directory; name a file"), std::string::npos);
  }
}

}  // namespace
}  // namespace pq
