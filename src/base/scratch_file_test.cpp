#include "base/scratch_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "base/error.h"

namespace pq {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

template <typename E>
std::string message_of(const fs::path& directory, std::uint64_t bytes) {
  try {
    const ScratchFile file(directory, bytes);
  } catch (const E& error) {
    return error.what();
  }
  return "no such error";
}

class ScratchFiles : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(directory_); }
  void TearDown() override { fs::remove_all(directory_); }

  const fs::path directory_ = fs::path(testing::TempDir()) / fmt::format("pq_scratch_{}", ::getpid());
};

TEST_F(ScratchFiles, HoldsWhatIsStoredAndHasNoName) {
  constexpr std::size_t size = (1U << 20) + 3;
  ScratchFile file(directory_, size);
  ASSERT_EQ(file.bytes().size(), size);
  EXPECT_TRUE(fs::is_empty(directory_));
  EXPECT_TRUE(std::all_of(file.bytes().begin(), file.bytes().end(), [](std::byte b) { return b == std::byte{0}; }));
  std::fill(file.bytes().begin(), file.bytes().end(), std::byte{7});
  const ScratchFile moved = std::move(file);
  EXPECT_EQ(moved.bytes().size(), size);
  EXPECT_EQ(moved.bytes()[size - 1], std::byte{7});
  ScratchFile other(directory_, 10);
  other = ScratchFile(directory_, 20);
  EXPECT_EQ(other.bytes().size(), 20U);
  EXPECT_TRUE(ScratchFile(directory_, 0).bytes().empty());
}

TEST_F(ScratchFiles, ItsPagesAreTheFilesNotTheProcesss) {
  const ScratchFile file(directory_, 1U << 16);
  std::ifstream maps("/proc/self/maps");
  const std::string start = fmt::format("{:x}-", reinterpret_cast<std::uintptr_t>(file.bytes().data()));
  std::string found;
  for (std::string line; std::getline(maps, line);) {
    if (line.starts_with(start)) found = line;
  }
  EXPECT_THAT(found, AllOf(HasSubstr(" rw-s "), HasSubstr("(deleted)")));
}

TEST_F(ScratchFiles, SpaceIsReservedBeforeItIsTouched) {
  constexpr std::uintmax_t size = std::uintmax_t{64} << 20;
  if (fs::space(directory_).available < 4 * size) GTEST_SKIP() << "less than " << 4 * size << " bytes free";
  bool reserved = false;
  for (int attempt = 0; attempt < 5 && !reserved; ++attempt) {  // others write to the same disk meanwhile
    const auto before = fs::space(directory_).free;
    const ScratchFile file(directory_, size);
    reserved = fs::space(directory_).free + size / 2 < before;
  }
  EXPECT_TRUE(reserved);
}

TEST_F(ScratchFiles, LeavesNothingWhenTheProcessIsKilled) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const ScratchFile file(directory_, 1U << 20);
    std::fill(file.bytes().begin(), file.bytes().end(), std::byte{1});
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  ::close(ready[1]);
  char byte = 0;
  EXPECT_EQ(::read(ready[0], &byte, 1), 1);
  ::close(ready[0]);
  EXPECT_EQ(::kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(ScratchFiles, SaysHowMuchIsNeededAndHowMuchIsFree) {
  EXPECT_THAT(message_of<SystemError>(directory_, std::uint64_t{1} << 60),
              AllOf(HasSubstr(directory_.string() + ": "), HasSubstr("needs 1048576.0 TiB"), HasSubstr(" has only "),
                    HasSubstr(" free; free some disk space")));
  EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(ScratchFiles, AFileThatMayNotGrowIsAnErrorNotASignal) {
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = message_of<SystemError>(directory_, 5000);
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, AllOf(HasSubstr(directory_.string() + ": cannot reserve 4.9 KiB"), HasSubstr(" free: "),
                             HasSubstr("choose another directory")));
}

TEST_F(ScratchFiles, RefusesWhatIsNoDirectoryToWriteIn) {
  EXPECT_THAT(message_of<InputError>(directory_ / "none", 1), HasSubstr("none: is not a directory that exists"));
  std::ofstream(directory_ / "file") << "x";
  EXPECT_THAT(message_of<InputError>(directory_ / "file", 1), HasSubstr("file: is not a directory that exists"));
  EXPECT_THAT(message_of<InputError>("/proc", 1), HasSubstr("/proc: no file can be made here: "));
}

}  // namespace
}  // namespace pq
