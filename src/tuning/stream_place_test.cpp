#include "tuning/stream_place.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_usage.h"

namespace pq::quant {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

/// What choose() writes to the log.
std::string said(std::uint64_t bytes, const fs::path& asked, bool& on_disk) {
  testing::internal::CaptureStderr();
  on_disk = StreamPlace::choose(bytes, asked, testing::TempDir()).on_disk();
  return testing::internal::GetCapturedStderr();
}

TEST(StreamPlace, SaysWhereAndWhy) {
  bool on_disk = false;
  EXPECT_THAT(said(64 << 20, {}, on_disk), HasSubstr("activation streams: 64"));
  EXPECT_FALSE(on_disk);
  EXPECT_THAT(said(64 << 20, {}, on_disk), HasSubstr(" in memory, of "));
  const std::string place = fs::path(testing::TempDir()).string();
  EXPECT_THAT(said(available_bytes(), {}, on_disk), HasSubstr("in mapped files in " + place + ", because only "));
  EXPECT_TRUE(on_disk);
  EXPECT_THAT(said(1 << 20, "elsewhere", on_disk), HasSubstr("in mapped files in elsewhere\n"));
  EXPECT_TRUE(on_disk);
}

TEST(StreamPlace, AFileLeavesNoNameAndOutlivesThePlace) {
  const fs::path directory = fs::path(testing::TempDir()) / "pq_streams";
  fs::create_directories(directory);
  at::Tensor tensor;
  {
    const StreamPlace place(directory);
    tensor = place.allocate({3, 5, 7});
  }
  EXPECT_TRUE(fs::is_empty(directory));
  EXPECT_EQ(tensor.sizes(), (std::vector<std::int64_t>{3, 5, 7}));
  EXPECT_EQ(tensor.scalar_type(), at::kFloat);
  const at::Tensor values = at::arange(105, at::kFloat).view({3, 5, 7});
  tensor.copy_(values);
  const at::Tensor rows = tensor.narrow(0, 1, 2);
  tensor = at::Tensor();
  EXPECT_TRUE(at::equal(rows, values.narrow(0, 1, 2)));
  EXPECT_EQ(StreamPlace(directory).allocate({0, 5, 7}).numel(), 0);
  fs::remove(directory);
}

TEST(StreamPlace, NamesADirectoryThatIsNotThereAndADiskThatIsTooSmall) {
  try {
    StreamPlace("no/such/place").allocate({3, 5});
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("no/such/place"));
  }
  try {
    StreamPlace(testing::TempDir()).allocate({std::int64_t{1} << 30, std::int64_t{1} << 14});
    FAIL() << "accepted";
  } catch (const SystemError& error) {
    EXPECT_THAT(error.what(), HasSubstr(fs::path(testing::TempDir()).string()));
  }
}

}  // namespace
}  // namespace pq::quant
