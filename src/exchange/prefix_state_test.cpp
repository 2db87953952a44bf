#include "exchange/prefix_state.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "exchange/export_for_test.h"
#include "exchange/gguf_export.h"
#include "model/spec_for_test.h"
#include "numerics/hadamard.h"
#include "numerics/site_transform.h"
#include "numerics/transform_for_test.h"

namespace pq::exchange {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;
using testing::message_of;
using testing::recipe_with;
using testing::small_model;
using testing::TemporaryDirectory;
using testing::write_quantized;

constexpr std::int64_t length = 3;

std::vector<double> normals(Random& random, std::size_t count) {
  std::vector<double> values(count);
  for (double& value : values) value = random.normal();
  return values;
}

std::vector<std::uint16_t> halves(const std::vector<double>& values) {
  std::vector<std::uint16_t> bits;
  for (const double value : values) bits.push_back(float_to_f16(static_cast<float>(value)));
  return bits;
}

double furthest(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

struct Sample {
  explicit Sample(const std::vector<std::string>& settings = {}) : recipe(recipe_with("w4a4kv4-static", settings)) {
    Random random(5, "prefix");
    key = normals(random, 2 * length * 16);
    value = normals(random, 2 * length * 16);
    for (int i = 0; i < 32; ++i) block.key_mean.push_back(static_cast<float>(random.normal()));
    for (int i = 0; i < 512; ++i) {
      block.key_basis.push_back((i / 16 % 16 == i % 16 ? 1.5F : 0.0F) + 0.1F * static_cast<float>(random.normal()));
    }
    if (recipe.rotate.r3) block.transforms[Site::k_cache].steps.push_back(HadamardStep{16});
  }

  /// What a checkpoint would hold of them: K T - mean, V R2.
  Prefix::BlockKv stored() const {
    std::vector<double> k = key;
    apply_transform(block.transforms[Site::k_cache], k, 16);
    for (std::size_t head = 0; head < 2 && !block.key_basis.empty(); ++head) {
      const auto first = block.key_basis.begin() + static_cast<std::ptrdiff_t>(head * 256);
      apply_transform({{BlockDiagonalStep{16, 1, {first, first + 256}}}},
                      std::span(k).subspan(head * length * 16, length * 16), 16);
    }
    for (std::size_t i = 0; i < k.size(); ++i) {
      if (!block.key_mean.empty()) k[i] -= static_cast<double>(block.key_mean[i / (length * 16) * 16 + i % 16]);
    }
    std::vector<double> v = value;
    Random random(recipe.seed, "rotation R2");
    for (std::size_t head = 0; head < 2 && recipe.rotate.r2; ++head) {
      std::vector<double> signs(16, 1.0);
      for (double& sign : signs) sign = recipe.rotate.signs ? random.sign() : 1;
      for (std::size_t position = 0; position < length; ++position) {
        const auto row = std::span(v).subspan((head * length + position) * 16, 16);
        for (std::size_t i = 0; i < 16; ++i) row[i] *= signs[i];
        apply_hadamard(plan_hadamard(16), row);
      }
    }
    return {halves(k), halves(v)};
  }

  PlainKv plain(ValueBasis basis) const { return plain_prefix(stored(), block, spec, recipe, length, basis); }

  ModelSpec spec = small_spec(64, 128, 4, 2, 16);
  Recipe recipe;
  QuantizedBlock block;
  std::vector<double> key;
  std::vector<double> value;
};

/// The stored values are binary16 numbers of magnitude below 8; rotating back mixes 16 of them.
constexpr double bound = 4.0 / 2048 * 4;

TEST(PlainPrefix, UndoesWhatIsOnlineAndR2) {
  for (const std::vector<std::string>& settings :
       {std::vector<std::string>{}, {"rotate.signs=true"}, {"rotate.r3=false"}, {"rotate.r2=false"}}) {
    const Sample sample(settings);
    const PlainKv model = sample.plain(ValueBasis::model);
    EXPECT_LT(furthest(model.key, sample.key), bound);
    EXPECT_LT(furthest(model.value, sample.value), bound);
    const PlainKv own = sample.plain(ValueBasis::checkpoint);
    EXPECT_EQ(own.key, model.key);
    const std::vector<std::uint16_t> stored = sample.stored().value;
    for (std::size_t i = 0; i < stored.size(); ++i)
      EXPECT_EQ(own.value[i], static_cast<double>(f16_to_float(stored[i])));
    // What must not pass: V still rotated, K without its mean.
    if (sample.recipe.rotate.r2) {
      EXPECT_GT(furthest(own.value, sample.value), 50 * bound);
    }
    Sample without = sample;
    without.block.key_mean.clear();
    EXPECT_GT(
        furthest(
            plain_prefix(sample.stored(), without.block, sample.spec, sample.recipe, length, ValueBasis::model).key,
            sample.key),
        50 * bound);
  }
}

TEST(PlainPrefix, UndoesAnyTransformExactlyInFloat64) {
  Sample sample;
  sample.block.key_mean.clear();
  sample.block.key_basis.clear();
  sample.block.transforms[Site::k_cache] = every_step(16);
  // Numbers that binary16 holds, through T and back in float64.
  const Prefix::BlockKv stored{halves(sample.key), halves(sample.value)};
  std::vector<double> back =
      plain_prefix(stored, sample.block, sample.spec, sample.recipe, length, ValueBasis::model).key;
  apply_transform(sample.block.transforms[Site::k_cache], back, 16);
  for (std::size_t i = 0; i < back.size(); ++i)
    EXPECT_NEAR(back[i], static_cast<double>(f16_to_float(stored.key[i])), 1e-9);
}

TEST(PlainPrefix, WithoutAnythingOnlineTheBitsStay) {
  Sample sample({"rotate.r3=false"});
  sample.block.key_mean.clear();
  sample.block.key_basis.clear();
  const Prefix::BlockKv stored = sample.stored();
  const PlainKv plain = sample.plain(ValueBasis::checkpoint);
  EXPECT_EQ(halves(plain.key), stored.key);
  EXPECT_EQ(halves(plain.value), stored.value);
}

template <typename T>
T at(const std::string& bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

TEST(SequenceState, HasTheBytesOfLlamaCpp) {
  const ModelSpec spec = small_spec(64, 128, 4, 2, 16);
  Random random(9, "state");
  Prefix prefix{2, {17, 4}, {}};
  for (int block = 0; block < 2; ++block)
    prefix.blocks.push_back({testing::random_halves(random, 64), testing::random_halves(random, 64)});
  const std::string state = sequence_state(prefix, spec, true, 3);
  const std::size_t head = 4 * (3 + 2 + 2 + 3 * 2 + 2);
  const std::size_t layer = 12 + 2 * 64;
  ASSERT_EQ(state.size(), head + 4 * layer);
  EXPECT_EQ(state.substr(0, 4), "qsgg");
  EXPECT_EQ(at<std::uint32_t>(state, 4), 3U);
  EXPECT_EQ(at<std::int32_t>(state, 12), 17);
  EXPECT_EQ(at<std::int32_t>(state, 28 + 12), 1);  // the second cell's position
  EXPECT_EQ(at<std::int32_t>(state, head), 1);
  EXPECT_EQ(at<std::uint64_t>(state, head + 4), 64U);
  const auto keys = [&](const std::string& bytes, std::size_t position, std::size_t head_number, std::size_t channel) {
    return at<std::uint16_t>(bytes, head + 12 + position * 64 + head_number * 32 + channel * 2);
  };
  const std::vector<std::uint16_t>& key = prefix.blocks[0].key;  // [2 heads, 2 positions, 16]
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(keys(state, 1, 1, 2 * i), key[(1 * 2 + 1) * 16 + i]);
    EXPECT_EQ(keys(state, 1, 1, 2 * i + 1), key[(1 * 2 + 1) * 16 + i + 8]);
  }
  EXPECT_EQ(at<std::uint16_t>(state, head + 2 * layer + 12 + 64 + 32 + 2),
            prefix.blocks[0].value[(1 * 2 + 1) * 16 + 1]);
  EXPECT_NE(sequence_state(prefix, spec, false, 3), state);  // other architectures keep the order
  EXPECT_EQ(at<std::uint16_t>(sequence_state(prefix, spec, false, 3), head + 12 + 2), key[1]);

  // Version 4 says between the number of layers and the first one that neither K nor V is rotated.
  std::string newest = sequence_state(prefix, spec, true, 4);
  EXPECT_EQ(at<std::uint32_t>(newest, 4), 4U);
  EXPECT_EQ(at<std::uint32_t>(newest, head - 4), 2U);
  EXPECT_EQ(at<std::uint64_t>(newest, head), 0U);
  EXPECT_EQ(newest.erase(head, 8).substr(8), state.substr(8));
  EXPECT_EQ(sequence_state(prefix, spec, true, 2).substr(8), state.substr(8));
}

class PrefixStateTest : public ::testing::Test {
 protected:
  io::QuantizedCheckpoint quantized(const std::vector<std::string>& settings = {}, std::int64_t tokens = 3,
                                    Json config = small_model()) {
    return write_quantized(folder_.path(), config, recipe_with("w4a16g32-gguf", settings), tokens);
  }
  std::string refusal(const io::QuantizedCheckpoint& checkpoint, const PrefixStateOptions& options = {}) {
    return message_of<Error>([&] { export_prefix_state(checkpoint, out_, options); });
  }

  TemporaryDirectory folder_;
  fs::path out_ = folder_.path() / "prefix.state";
};

TEST_F(PrefixStateTest, TheBasisIsThatOfTheFileBesideIt) {
  const auto checkpoint = quantized();
  const fs::path model = folder_.path() / "model.gguf";
  export_gguf(checkpoint, model, {});
  EXPECT_EQ(export_prefix_state(checkpoint, out_, {}).basis, ValueBasis::checkpoint);
  const std::string own = testing::read_bytes(out_);
  EXPECT_EQ(export_prefix_state(checkpoint, out_, {.replace = true, .beside = model}).basis, ValueBasis::checkpoint);
  EXPECT_EQ(testing::read_bytes(out_), own);
  // A file without our keys is of the model as it was.
  std::string foreign = testing::read_bytes(model);
  for (std::size_t found; (found = foreign.find("prefixquant.")) != std::string::npos;) foreign[found] = 'q';
  const fs::path other = folder_.path() / "other.gguf";
  testing::write_bytes(other, foreign);
  EXPECT_EQ(export_prefix_state(checkpoint, out_, {.replace = true, .beside = other}).basis, ValueBasis::model);
  EXPECT_NE(testing::read_bytes(out_), own);
}

TEST_F(PrefixStateTest, RefusesWhatItIsNotFor) {
  EXPECT_THAT(refusal(quantized({}, 0)), HasSubstr("has no prefix"));
  EXPECT_THAT(refusal(quantized(), {.version = 9}), HasSubstr("--llama-state-version 9"));
  Json config = small_model();
  config["rope_theta"] = 500000.0;
  const auto another = write_quantized(folder_.path() / "another", config, recipe_with("w4a16g32-gguf"));
  const fs::path model = folder_.path() / "another.gguf";
  export_gguf(another, model, {});
  EXPECT_THAT(refusal(quantized(), {.beside = model}), HasSubstr("is not of the model that was quantized"));
  const auto other_seed = quantized({"rotate.signs=true", "seed=5"});
  const fs::path signed_model = folder_.path() / "signed.gguf";
  export_gguf(other_seed, signed_model, {});
  EXPECT_THAT(refusal(quantized(), {.beside = signed_model}), HasSubstr("rotated in another way"));
  testing::write_bytes(out_, "mine");
  EXPECT_THAT(refusal(quantized(), {.replace = true}), HasSubstr("is no sequence state"));
}

}  // namespace
}  // namespace pq::exchange
