#include "base/map_faults.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "base/mapped_file.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t pages = 1 << 16;

fs::path big_file(const char* name) {
  const fs::path path = fs::path(testing::TempDir()) / name;
  std::ofstream(path, std::ios::binary) << std::string(pages, 'x');
  return path;
}

int last_byte(const MappedFile& file) {
  const volatile std::byte* end = file.bytes().data() + file.bytes().size() - 1;
  return static_cast<int>(*end);
}

TEST(MapFaultsDeathTest, AFileCutShortEndsTheProcessByName) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        report_map_faults();
        const fs::path path = big_file("pq_cut_short");
        std::vector<MappedFile> others;
        for (const char* name : {"pq_whole_1", "pq_whole_2"}) others.emplace_back(big_file(name));
        MappedFile file(path);
        others.push_back(std::move(file));  // the note moves along
        fs::resize_file(path, 0);
        std::_Exit(last_byte(others[0]) + last_byte(others.back()));
      },
      testing::ExitedWithCode(2), "error: .*pq_cut_short: was cut short while it was in use");
}

// The address sanitizer reports the signal itself, and exits.
bool is_bus_error(int status) {
#if defined(__SANITIZE_ADDRESS__)
  return testing::ExitedWithCode(1)(status);
#else
  return testing::KilledBySignal(SIGBUS)(status);
#endif
}

TEST(MapFaultsDeathTest, AFaultElsewhereStaysASignal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        report_map_faults();
        { const MappedFile gone(big_file("pq_gone")); }
        ::raise(SIGBUS);
        ::raise(SIGBUS);
      },
      is_bus_error, "");
}

TEST(MapFaults, WholeFilesAreRead) {
  const MappedFile file(big_file("pq_whole"));
  EXPECT_EQ(last_byte(file), 'x');
}

}  // namespace
}  // namespace pq
