#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>
#include <vector>

#include "kernels/select.h"
#include "model/spec_for_test.h"
#include "runtime/model_loader.h"
#include "runtime/model_source.h"
#include "runtime/session.h"

namespace pq::runtime {
namespace {

/// A model whose keys or values are around `bias` in its last block, beyond binary16 where that is.
std::shared_ptr<const Model> biased_model(LinearId which, float bias, int kv_bits, const kernels::KernelTable& table,
                                          std::int64_t blocks = 1, const char* setting = nullptr) {
  ModelSpec spec = small_spec(32, 48, 4, 2, 8);
  spec.family = find_family("qwen2");
  spec.qkv_bias = true;
  spec.block_count = blocks;
  Recipe unquantized;
  unquantized.rotate = {ResidualRotation::none, false, false, false};
  if (setting != nullptr) apply_setting(unquantized, setting);
  ModelSource source = random_source(spec, unquantized, 0);
  source.block = [source, which, bias, blocks](std::int64_t index) {
    BlockSource block = source.block(index);
    if (index + 1 == blocks) {
      std::vector<float>& values = block.parameters.linears[which].bias;
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = bias * (i % 3 == 0 ? -1.0F : 1.0F);
    }
    return block;
  };
  return std::make_shared<const Model>(build_model(source, {.kv_bits = kv_bits}, table));
}

std::vector<std::int32_t> some_tokens(std::int32_t count) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  std::iota(tokens.begin(), tokens.end(), 1);
  return tokens;
}

std::vector<float> logits_after(Session& session, std::span<const std::int32_t> tokens) {
  session.append(tokens);
  const auto logits = session.logits();
  return {logits.begin(), logits.end()};
}

// A cache of 16 bits gives then what one of 32 does, whether tokens come together or one by one.
TEST(KvRange, WhatBinary16CannotHoldIsKeptInFloat32) {
  const std::vector<std::int32_t> tokens = some_tokens(40);
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    for (const LinearId which : {LinearId::k, LinearId::v}) {
      Session narrow(biased_model(which, 1e5F, 16, *table), 64);
      Session wide(biased_model(which, 1e5F, 32, *table), 64);
      EXPECT_EQ(logits_after(narrow, tokens), logits_after(wide, tokens)) << table->name;
      Session narrow_steps(narrow.model(), 64);
      Session wide_steps(wide.model(), 64);
      for (const std::int32_t token : tokens) {
        ASSERT_EQ(logits_after(narrow_steps, {&token, 1}), logits_after(wide_steps, {&token, 1})) << table->name;
      }
    }
  }
}

// What other blocks, and tokens before, have stored in binary16 comes along.
TEST(KvRange, WhatWasStoredBeforeComesAlong) {
  const kernels::KernelTable& table = *kernels::kernel_tables().front();
  const std::vector<std::int32_t> tokens = some_tokens(40);
  Session narrow(biased_model(LinearId::v, 65519.5F, 16, table, 2), 64);
  Session wide(biased_model(LinearId::v, 65519.5F, 32, table, 2), 64);
  for (std::size_t first = 0; first < tokens.size(); first += 5) {
    const std::vector<float> got = logits_after(narrow, std::span(tokens).subspan(first, 5));
    const std::vector<float> expected = logits_after(wide, std::span(tokens).subspan(first, 5));
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i], 0.02 * (1 + std::fabs(expected[i]))) << first;
    }
  }
}

// Codes of a block whose cache is quantized are not touched, and come along.
TEST(KvRange, ABlockOfCodesStaysAsItIs) {
  const kernels::KernelTable& table = *kernels::kernel_tables().front();
  const std::vector<std::int32_t> tokens = some_tokens(40);
  const auto model = biased_model(LinearId::v, 65519.5F, 0, table, 2, "blocks.0.kv.bits=4");
  const auto other = biased_model(LinearId::v, 65519.5F, 0, table, 2);
  Session steps(model, 64);
  for (std::size_t first = 0; first < tokens.size(); first += 5) {
    const std::vector<float> got = logits_after(steps, std::span(tokens).subspan(first, 5));
    Session whole(model, 64);
    const std::vector<float> expected = logits_after(whole, std::span(tokens).first(first + 5));
    Session plain(other, 64);
    EXPECT_NE(logits_after(plain, std::span(tokens).first(first + 5)), expected);
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i], 0.02 * (1 + std::fabs(expected[i]))) << first;
    }
  }
}

TEST(KvRange, AWidenedCacheIsForkedAndSavedAsItIs) {
  const kernels::KernelTable& table = *kernels::kernel_tables().front();
  const auto model = biased_model(LinearId::v, 1e5F, 16, table);
  const std::vector<std::int32_t> tokens = some_tokens(33);
  Session session(model, 64);
  session.append(tokens);
  Session fork = session.fork();
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "pq_wide_session";
  session.save(path);
  Session loaded = Session::load(model, path);
  const std::int32_t next = 7;
  const std::vector<float> expected = logits_after(session, {&next, 1});
  EXPECT_EQ(logits_after(fork, {&next, 1}), expected);
  EXPECT_EQ(logits_after(loaded, {&next, 1}), expected);
  // Saved before it was widened, it is widened where it is loaded.
  Session empty(model, 64);
  empty.save(path);
  Session from_empty = Session::load(model, path);
  EXPECT_TRUE(std::isfinite(logits_after(from_empty, tokens)[0]));
}

TEST(KvRange, OrdinaryValuesStayInBinary16) {
  const kernels::KernelTable& table = *kernels::kernel_tables().front();
  const std::vector<std::int32_t> tokens = some_tokens(9);
  Session narrow(biased_model(LinearId::v, 6e4F, 16, table), 64);
  Session wide(biased_model(LinearId::v, 6e4F, 32, table), 64);
  EXPECT_NE(logits_after(narrow, tokens), logits_after(wide, tokens));
}

}  // namespace
}  // namespace pq::runtime
