#include "model/model_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"

namespace pq {
namespace {

/// No field has its default.
ModelSpec unusual() {
  ModelSpec spec;
  spec.family = find_family("qwen2");
  spec.hidden_size = 1;
  spec.intermediate_size = 2;
  spec.block_count = 3;
  spec.head_count = 4;
  spec.kv_head_count = 5;
  spec.head_dim = 6;
  spec.vocab_size = 7;
  spec.max_positions = 8;
  spec.rms_norm_eps = 1e-5;
  spec.tied_embeddings = true;
  spec.qkv_bias = true;
  spec.block_pattern = {{9, NoRope{}},
                        {0, PlainRope{5e5}},
                        {10, ScaledRope{1e6, 8, 1.5, 3, 4096}},
                        {0, LinearRope{1e5, 3}},
                        {0, YarnRope{1e4, 2, 30, 2, 77, false, 1.25}},
                        {4, LongRope{1e4, {1, 1.5, 3}, 1.125}}};
  spec.rotary_width = 4;
  spec.norm_placement = NormPlacement::sandwich;
  spec.norm_offset = true;
  spec.qk_norm = QkNorm::per_head;
  spec.attention_scale = 0.3;
  spec.score_soft_cap = 50;
  spec.activation = Activation::gelu_tanh;
  spec.embedding_scale = 48;
  spec.residual_scale = 0.25;
  spec.logit_scale = 0.5;
  spec.logit_soft_cap = 30;
  spec.bos_token_id = 11;
  spec.eos_token_ids = {12, 13};
  return spec;
}

TEST(ModelSpec, EveryFieldComesBackFromJsonAndIsCompared) {
  const ModelSpec spec = unusual();
  const Json json = parse_json(model_spec_to_json(spec).dump(), "spec");
  EXPECT_TRUE(model_spec_from_json(json, "spec") == spec);
  EXPECT_EQ(model_spec_to_json(model_spec_from_json(json, "spec")), json);
  std::set<std::string_view> keys;
  for (const ModelSpecField& field : model_spec_fields()) {
    SCOPED_TRACE(field.key);
    EXPECT_TRUE(keys.insert(field.key).second);
    ModelSpec plain;
    EXPECT_NE(field.get(plain), field.get(spec));
    field.set(plain, json.at(std::string(field.key)));
    EXPECT_EQ(field.get(plain), field.get(spec));
    EXPECT_FALSE(plain == ModelSpec{});
    EXPECT_EQ(model_spec_fingerprint(plain) == model_spec_fingerprint(ModelSpec{}), !field.computes);
    // No other field than its own has moved.
    Json others = model_spec_to_json(plain);
    Json expected = model_spec_to_json(ModelSpec{});
    others.erase(std::string(field.key));
    expected.erase(std::string(field.key));
    EXPECT_EQ(others, expected);
  }
}

TEST(ModelSpec, JsonThatIsNotItsOwnIsRefused) {
  const auto refuses = [](const char* text, const char* field) {
    EXPECT_THAT([&] { model_spec_from_json(parse_json(text, "x"), "spec"); },
                ::testing::ThrowsMessage<FormatError>(::testing::HasSubstr(field)))
        << text;
  };
  refuses(R"({"hidden": 3})", "hidden");
  refuses(R"({"hidden_size": "wide"})", "hidden_size");
  refuses(R"({"activation": "relu"})", "activation");
  refuses(R"({"family": "bert"})", "family");
  refuses(R"({"block_pattern": [{"window": 0, "rope": {"kind": "yarn"}}]})", "block_pattern");
  refuses(R"({"block_pattern": [{"window": 0}]})", "block_pattern");
}

TEST(ModelSpec, WhatHasNoArithmeticIsRefusedByName) {
  ModelSpec spec;
  spec.head_dim = 64;
  spec.rotary_width = 64;
  spec.attention_scale = 0.25;
  spec.block_pattern = {{16, NoRope{}}, {0, NoRope{}}};
  EXPECT_NO_THROW(require_supported(spec, "model"));
  EXPECT_EQ(spec.score_scale(), 0.25);
  EXPECT_EQ(ModelSpec{.head_dim = 64}.score_scale(), 0.125);
  const ModelSpec other = unusual();
  for (const char* key : {"score_soft_cap", "logit_soft_cap"}) {
    ModelSpec one = spec;
    for (const ModelSpecField& field : model_spec_fields()) {
      if (field.key == key) field.set(one, field.get(other));
    }
    EXPECT_THAT([&] { require_supported(one, "model"); },
                ::testing::ThrowsMessage<UnsupportedError>(
                    ::testing::AllOf(::testing::HasSubstr("model"), ::testing::HasSubstr(key))));
  }
  for (const std::int64_t width : {0, 3, 66}) {
    spec.rotary_width = width;
    EXPECT_THROW(require_supported(spec, "model"), UnsupportedError) << width;
  }
}

TEST(ModelSpec, ThePatternRepeatsOverTheBlocks) {
  ModelSpec spec;
  EXPECT_EQ(spec.window_of_block(17), 0);
  spec.block_pattern = {{7, PlainRope{}}, {0, PlainRope{}}, {9, PlainRope{}}};
  EXPECT_EQ(spec.window_of_block(3), 7);
  EXPECT_EQ(spec.window_of_block(4), 0);
  EXPECT_EQ(spec.largest_window(), 9);
}

TEST(RopeFrequencies, FallFromOneTurnToAnother) {
  const auto frequencies = rope_frequencies(PlainRope{10000}, 8);
  ASSERT_EQ(frequencies.size(), 4U);
  EXPECT_EQ(frequencies[0], 1);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    EXPECT_NEAR(frequencies[i], std::pow(10.0, -static_cast<double>(i)), 1e-15);
  }
  EXPECT_THAT(rope_frequencies(NoRope{}, 8), ::testing::IsEmpty());
}

TEST(RopeFrequencies, AreStretched) {
  const auto plain = rope_frequencies(PlainRope{500}, 16);
  const auto ratios = [&](const RopeSpec& rope) {
    std::vector<double> out = rope_frequencies(rope, 16);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] /= plain[i];
    return out;
  };
  EXPECT_THAT(ratios(LinearRope{500, 4}), ::testing::Each(::testing::DoubleNear(0.25, 1e-15)));
  // Turns within 32 positions: above 4 a frequency stays, below 1 it is divided by 8.
  const auto scaled = ratios(ScaledRope{500, 8, 1, 4, 32});
  EXPECT_NEAR(scaled[0], 1, 1e-15);
  EXPECT_NEAR(scaled[1], 0.516, 1e-3);
  EXPECT_NEAR(scaled[7], 0.125, 1e-15);
  EXPECT_EQ(ratios(LongRope{500, {1, 2, 4, 1, 1, 1, 1, 8}, 2})[7], 0.125);
  EXPECT_EQ(rope_amplitude(LongRope{500, {}, 2}), 2);
  EXPECT_EQ(rope_amplitude(PlainRope{}), 1);
  EXPECT_THROW(rope_frequencies(LongRope{500, {1, 2}, 1}, 16), InputError);
}

}  // namespace
}  // namespace pq
