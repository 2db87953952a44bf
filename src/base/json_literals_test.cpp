#include "base/json_literals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/json.h"

namespace pq {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

TEST(JsonLiterals, ReadsWhatPythonWrites) {
  const Json json =
      parse_json(R"({"a": NaN, "b": [Infinity,-Infinity , 2.5], "c": {"NaN": "Infinity"}, "d":NaN})", "x");
  EXPECT_TRUE(std::isnan(json["a"].get<double>()));
  EXPECT_TRUE(json["a"].is_number_float());
  EXPECT_EQ(json["b"], Json::array({infinity, -infinity, 2.5}));
  EXPECT_EQ(json["c"]["NaN"], "Infinity");
  EXPECT_TRUE(std::isnan(json["d"].get<double>()));
  EXPECT_EQ(parse_json("-Infinity", "x"), -infinity);
  EXPECT_TRUE(std::isnan(parse_json(" NaN ", "x").get<double>()));
}

TEST(JsonLiterals, TouchesNoStringAndNoNumber) {
  const char* text = R"(["\"NaN", "a\\", NaN, "0e01", 0e01, 0e00, "\\\" Infinity"])";
  const Json json = parse_json(text, "x");
  EXPECT_EQ(json[0], "\"NaN");
  EXPECT_EQ(json[1], "a\\");
  EXPECT_TRUE(std::isnan(json[2].get<double>()));
  EXPECT_EQ(json[3], "0e01");
  EXPECT_EQ(json[4], 0.0);
  EXPECT_EQ(json[5], 0.0);
  EXPECT_EQ(json[6], "\\\" Infinity");
}

TEST(JsonLiterals, RefusesTheRestAtItsByte) {
  for (const char* text : {"nan", "inf", "[+Infinity]", "[NaN0]", "[Infinity1]", "{NaN: 1}", "[--Infinity]",
                           "[Infinit]", "[- Infinity]", "[1e999, NaN]", "NaN NaN"}) {
    EXPECT_THROW(parse_json(text, "x"), FormatError) << text;
  }
  const auto byte_of = [](const char* text) -> std::string {
    try {
      parse_json(text, "x");
    } catch (const FormatError& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(byte_of("[NaN, Infinity, ?]"), testing::HasSubstr("(at byte 17)"));
  EXPECT_THAT(byte_of("[111, 22222222, ?]"), testing::HasSubstr("(at byte 17)"));
}

TEST(JsonLiterals, NamesNumbers) {
  EXPECT_EQ(number_text(-infinity), "-Infinity");
  EXPECT_EQ(number_text(std::nan("")), "NaN");
  EXPECT_EQ(number_text(0.5), "0.5");
}

}  // namespace
}  // namespace pq
