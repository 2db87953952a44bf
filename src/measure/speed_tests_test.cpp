#include "measure/speed_tests.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"

namespace pq::measure {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;

TEST(SpeedTests, NamesSayWhatIsTimed) {
  const auto tests = parse_tests({"pp512", "tg128x8@4096", "tg1@0", "pp512", "paper", "pp2048"});
  std::vector<std::string> names;
  for (const BenchTest& test : tests) names.push_back(test.name);
  EXPECT_THAT(names, ElementsAre("pp512", "tg128x8@4096", "tg1@0", "pp2048", "tg256@2048"));
  EXPECT_EQ(tests[0].kind, BenchTest::Kind::prefill);
  EXPECT_EQ(tests[0].batch, 1);
  EXPECT_EQ(tests[0].depth, 0);
  EXPECT_EQ(tests[1].kind, BenchTest::Kind::generate);
  EXPECT_EQ(tests[1].tokens, 128);
  EXPECT_EQ(tests[1].batch, 8);
  EXPECT_EQ(tests[1].depth, 4096);
  EXPECT_EQ(tests[1].capacity(), 4224);
  EXPECT_EQ(parse_tests(default_tests()).size(), 9U);  // the paper's pp2048 is there already
  for (const char* bad : {"", "pp", "tg0", "pp-1", "pp512x", "pp512x0", "pp512x65", "tg128@", "tg128@-1", "tg128 ",
                          "tg128@1x2", "gg128", "pp99999999999999999999", "tg1000001"}) {
    EXPECT_THAT([&] { parse_tests({bad}); },
                ThrowsMessage<InputError>(AllOf(StartsWith(fmt::format("--test {}: is not a test;", bad)),
                                                HasSubstr("for example tg128x8@4096"))))
        << bad;
  }
}

}  // namespace
}  // namespace pq::measure
