#include "io/safetensors.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "base/half.h"
#include "base/parallel_for.h"
#include "io/test_files.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::raw_safetensors;
using testing::read_bytes;
using testing::TemporaryDirectory;
using testing::write_bytes;

const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "io";

std::vector<float> floats(const TensorView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.size()));
  to_float32(view, values);
  return values;
}

std::span<const std::byte> as_bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string error_of(const std::string& bytes) {
  return message_of<FormatError>([&] { SafetensorsFile(as_bytes(bytes), "bad.safetensors"); });
}

TEST(Safetensors, ReadsWhatTheLibraryWrote) {
  const SafetensorsFile file(goldens / "types.safetensors");
  EXPECT_EQ(file.metadata().at("purpose"), "golden");
  for (const char* name : {"f64", "f32", "f16", "bf16"}) {
    const TensorView view = file.tensor(name);
    EXPECT_EQ(dtype_name(view.dtype),
              dtype_name(*dtype_from_name(std::string(name) == "bf16" ? "BF16" : std::string(1, 'F') + (name + 1))));
    EXPECT_THAT(view.shape, ElementsAre(5, 7));
    const auto expected = floats(file.tensor(std::string(name) + ".as_f32"));
    const auto found = floats(view);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(found[i]), std::bit_cast<std::uint32_t>(expected[i])) << name << " " << i;
    }
  }
  for (const auto& [name, size] : {std::pair("u8", 1), {"i8", 1}, {"i16", 2}, {"i32", 4}, {"i64", 8}}) {
    const TensorView view = file.tensor(name);
    ASSERT_EQ(static_cast<int>(dtype_size(view.dtype)), size);
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(view.bytes[i * dtype_size(view.dtype)], static_cast<std::byte>(i));
    EXPECT_THAT(message_of<UnsupportedError>([&] { floats(view); }), HasSubstr(name));
  }
  EXPECT_EQ(file.tensor("empty").size(), 0);
  EXPECT_TRUE(file.tensor("scalar").shape.empty());
  EXPECT_EQ(floats(file.tensor("scalar"))[0], 2.5F);
}

TEST(Safetensors, UnknownTypeIsRefusedOnlyWhenAskedFor) {
  const SafetensorsFile file(goldens / "types.safetensors");
  EXPECT_TRUE(file.has("bool"));
  EXPECT_THAT(message_of<UnsupportedError>([&] { file.tensor("bool"); }),
              AllOf(HasSubstr("types.safetensors"), HasSubstr("'bool'"), HasSubstr("BOOL")));
}

TEST(Safetensors, WriterGivesTheLibrarysBytes) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "plain.safetensors";
  const std::vector<float> first{0, 1, 2, 3, 4, 5};
  const std::vector<float> second{-0.0F, -0.5F, -1.0F};
  SafetensorsWriter writer(path, {{"first", DType::f32, {2, 3}}, {"second", DType::f32, {3}}});
  const auto bytes = std::as_bytes(std::span(first));
  writer.append("first", bytes.first(7));  // a tensor may come in pieces of any size
  writer.append("first", bytes.subspan(7));
  writer.append("second", std::as_bytes(std::span(second)));
  writer.finish();
  EXPECT_EQ(read_bytes(path), read_bytes(goldens / "plain.safetensors"));
}

TEST(Safetensors, WriterRoundTripsOddSizesAndEmptyTensors) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "odd.safetensors";
  const std::vector<TensorDeclaration> declarations{{"empty.first", DType::f16, {0, 4}},
                                                    {"bytes \"quoted\"", DType::u8, {3}},
                                                    {"unaligned", DType::f32, {2}},
                                                    {"scalar", DType::i64, {}},
                                                    {"empty.last", DType::f32, {0}}};
  const std::array<float, 2> values{1.5F, -2.25F};
  const std::array<std::uint8_t, 3> raw{1, 2, 3};
  const std::int64_t number = -5;
  SafetensorsWriter writer(path, declarations, {{"key", "value"}});
  writer.append("bytes \"quoted\"", std::as_bytes(std::span(raw)));
  writer.append("unaligned", std::as_bytes(std::span(values)));
  writer.append("scalar", std::as_bytes(std::span(&number, 1)));
  writer.finish();
  const SafetensorsFile file(path);
  EXPECT_EQ(file.names().size(), declarations.size());
  for (const TensorDeclaration& declaration : declarations) expect_tensor(file.tensor(declaration.name), declaration);
  EXPECT_THAT(floats(file.tensor("unaligned")), ElementsAre(1.5F, -2.25F));
  EXPECT_EQ(file.metadata().at("key"), "value");
  EXPECT_EQ((file.tensor("bytes \"quoted\"").bytes.data() - file.tensor("empty.first").bytes.data()), 0);
}

TEST(Safetensors, WriterRefusesWrongOrderMeasureAndIncompleteness) {
  const TemporaryDirectory directory;
  const std::vector<std::byte> four(4);
  const std::vector<TensorDeclaration> two{{"a", DType::u8, {4}}, {"b", DType::u8, {4}}};
  const auto writer = [&] { return SafetensorsWriter(directory.path() / "x.safetensors", two); };
  EXPECT_THROW(writer().append("b", four), std::logic_error);
  EXPECT_THROW(writer().append("a", std::vector<std::byte>(5)), std::logic_error);
  EXPECT_THAT(message_of<std::logic_error>([&] {
                auto incomplete = writer();
                incomplete.append("a", four);
                incomplete.append("b", std::vector<std::byte>(3));
                incomplete.finish();
              }),
              HasSubstr("'b' is incomplete, 1 bytes"));
  EXPECT_THROW(SafetensorsWriter(directory.path() / "y", {two[0], two[0]}), std::logic_error);
  EXPECT_THROW(SafetensorsWriter(directory.path() / "y", {{"huge", DType::f32, {std::int64_t{1} << 62, 2}}}),
               std::logic_error);
}

TEST(Safetensors, RefusesDamagedHeaders) {
  const std::string tensor = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string data(8, '\1');
  EXPECT_NO_THROW(SafetensorsFile(as_bytes(raw_safetensors("{" + tensor + "}", data)), "good"));
  EXPECT_THAT(error_of("short"), AllOf(HasSubstr("bad.safetensors"), HasSubstr("only 5 bytes")));
  EXPECT_THAT(error_of(raw_safetensors("{" + tensor + "}", data, 100'000'000'000)),
              HasSubstr("the format allows 100000000"));
  EXPECT_THAT(error_of(raw_safetensors("{" + tensor + "}", data, 1000)), HasSubstr("announces a header of"));
  EXPECT_THAT(error_of(raw_safetensors("", "")), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(error_of(raw_safetensors("{" + tensor, data)), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(raw_safetensors("{" + tensor + "}x", data)), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(raw_safetensors("{" + tensor + "," + tensor + "}", data)),
              AllOf(HasSubstr("'a'"), HasSubstr("twice")));
  EXPECT_THAT(error_of(raw_safetensors(R"({"a":5})", "")), HasSubstr("'a' is a number, not an object"));
  EXPECT_THAT(error_of(raw_safetensors(R"({"__metadata__":{"a":{}}})", "")), HasSubstr("metadata 'a' is an object"));
  EXPECT_THAT(error_of(raw_safetensors(R"({"__metadata__":{"a":"","a":""}})", "")),
              HasSubstr("metadata 'a' stands twice"));
  EXPECT_THAT(error_of(raw_safetensors(std::string(R"({"a":)") + std::string(100000, '['), "")), HasSubstr("'a'"));
  EXPECT_THAT(error_of(raw_safetensors(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", "1234")),
              HasSubstr("its shape holds an array"));
  EXPECT_THAT(error_of(raw_safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", "1234")),
              HasSubstr("two data_offsets"));
  EXPECT_THAT(error_of(raw_safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", "1234")),
              HasSubstr("unknown field 'x'"));
  EXPECT_THAT(error_of(raw_safetensors(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234")),
              HasSubstr("negative number"));
  EXPECT_THAT(error_of(raw_safetensors(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "1234")),
              HasSubstr("not a 64-bit integer"));
}

TEST(Safetensors, RefusesShapesAndOffsetsThatLie) {
  const auto file = [](std::string_view entries, std::size_t bytes) {
    return raw_safetensors("{" + std::string(entries) + "}", std::string(bytes, 'x'));
  };
  const auto one = [](std::string_view name, std::string_view shape, std::uint64_t begin, std::uint64_t end) {
    return fmt::format(R"("{}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}})", name, shape, begin, end);
  };
  EXPECT_THAT(error_of(file(one("a", "9", 0, 8), 8)),
              AllOf(HasSubstr("'a'"), HasSubstr("U8 [9] does not fit its 8 bytes")));
  EXPECT_THAT(error_of(file(one("a", "8", 0, 8), 5)),
              HasSubstr("'a': ends at byte 8 of the data, but the file holds only 5"));
  EXPECT_THAT(error_of(file(one("a", "8", 0, 8), 9)), HasSubstr("1 bytes behind its last tensor"));
  EXPECT_THAT(error_of(file(one("a", "8", 8, 0), 8)), HasSubstr("run backwards"));
  EXPECT_THAT(error_of(file(one("a", "6", 0, 6) + "," + one("b", "4", 4, 8), 8)),
              HasSubstr("'b': overlaps tensor 'a'"));
  EXPECT_THAT(error_of(file(one("a", "4", 0, 4) + "," + one("b", "2", 6, 8), 8)),
              HasSubstr("'b': there is a hole of 2 bytes"));
  EXPECT_THAT(error_of(file(one("a", "4294967296,4294967296,4", 0, 8), 8)), HasSubstr("overflows"));
  EXPECT_THAT(error_of(file(one("a", "9223372036854775808", 0, 8), 8)), HasSubstr("above 2^63"));
  EXPECT_THAT(error_of(file(R"("a":{"dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8]})", 8)),
              HasSubstr("does not fit"));  // times 8 bytes it would wrap around to 8
}

TEST(Safetensors, ConvertsRowsAndLargeTensorsOnEveryThread) {
  const std::size_t rows = 700;
  const std::size_t columns = 401;
  std::vector<std::uint16_t> bits(rows * columns);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = float_to_bf16(static_cast<float>(i));
  TensorView view{"big",
                  DType::bf16,
                  {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns)},
                  std::as_bytes(std::span(bits)),
                  "memory"};
  set_thread_count(4);
  const auto all = floats(view);
  set_thread_count(0);
  for (std::size_t i = 0; i < bits.size(); ++i) ASSERT_EQ(all[i], bf16_to_float(bits[i]));
  std::vector<float> part(3 * columns);
  rows_to_float32(view, 697, 3, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), all.end() - static_cast<std::ptrdiff_t>(part.size())));
  EXPECT_THROW(rows_to_float32(view, 698, 3, part), std::logic_error);
  EXPECT_THROW(rows_to_float32(view, std::numeric_limits<std::int64_t>::max(), 3, part), std::logic_error);
  EXPECT_THROW(rows_to_float32(view, 0, 2, part), std::logic_error);
  EXPECT_THROW(to_float32(view, part), std::logic_error);
}

class Sharded : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_random_tensors(path("one.safetensors"), {{"a", DType::f32, {2}}, {"b", DType::f32, {3}}});
    testing::write_random_tensors(path("two.safetensors"), {{"c", DType::f32, {4}}});
  }
  fs::path path(std::string_view name) const { return directory_.path() / name; }
  void write_index(std::string_view map) const {
    write_bytes(path("model.safetensors.index.json"), fmt::format(R"({{"metadata":{{}},"weight_map":{}}})", map));
  }
  template <typename E>
  std::string error() const {
    return message_of<E>([&] { ShardedTensors{directory_.path()}; });
  }
  TemporaryDirectory directory_;
};

TEST_F(Sharded, FindsEachTensorInItsShard) {
  write_index(R"({"a":"one.safetensors","c":"two.safetensors","b":"one.safetensors"})");
  const ShardedTensors tensors(directory_.path());
  EXPECT_THAT(tensors.names(), ElementsAre("a", "b", "c"));
  EXPECT_EQ(tensors.tensor("c").size(), 4);
  EXPECT_EQ(tensors.tensor("c").file, path("two.safetensors").string());
  EXPECT_THAT(message_of<FormatError>([&] { tensors.tensor("d"); }), AllOf(HasSubstr("index.json"), HasSubstr("'d'")));
}

TEST_F(Sharded, OneFileGoesBeforeAnIndex) {
  write_index(R"({"a":"one.safetensors"})");
  fs::copy_file(path("two.safetensors"), path("model.safetensors"));
  EXPECT_THAT(ShardedTensors(directory_.path()).names(), ElementsAre("c"));
}

TEST_F(Sharded, RefusesABadIndex) {
  EXPECT_THAT(error<UnsupportedError>(), HasSubstr("safetensors under another name (one.safetensors)"));
  write_index(R"({"a":"two.safetensors"})");
  EXPECT_THAT(error<FormatError>(),
              AllOf(HasSubstr("index.json"), HasSubstr("'a'"), HasSubstr("not in its shard two.safetensors")));
  write_index(R"({"a":"three.safetensors"})");
  EXPECT_THAT(error<InputError>(), HasSubstr("three.safetensors: is missing, one of the shards that"));
  for (const char* name : {"../one.safetensors", "/etc/passwd", "..", "", "sub/one.safetensors", "a\\\\b"}) {
    write_index(fmt::format(R"({{"a":"{}"}})", name));
    EXPECT_THAT(error<FormatError>(), HasSubstr("not a plain file name")) << name;
  }
  write_index(R"({"a":1})");
  EXPECT_THAT(error<FormatError>(), HasSubstr("its shard is not a string"));
  write_index("[]");
  EXPECT_THAT(error<FormatError>(), HasSubstr("no 'weight_map' object"));
}

TEST(TensorView, WhatIsBeyondFloat32IsSaidToBeThat) {
  const std::vector<double> values{1, 1e300, 2};
  TensorView view{"w", DType::f64, {3}, std::as_bytes(std::span(values)), "x.safetensors"};
  EXPECT_THAT(message_of<UnsupportedError>([&] { refuse_not_finite(view); }),
              AllOf(HasSubstr("tensor 'w' holds 1e+300, beyond the range of float32"), HasSubstr("x.safetensors")));
  view.bytes = view.bytes.first(8);
  EXPECT_THAT(message_of<FormatError>([&] { refuse_not_finite(view); }), HasSubstr("holds NaN or infinity"));
}

}  // namespace
}  // namespace pq::io
