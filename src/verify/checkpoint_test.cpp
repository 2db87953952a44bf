// Quantized and unquantized checkpoints on disk through the loader, whole and damaged.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/quantized_checkpoint.h"
#include "io/test_files.h"
#include "model/spec_for_test.h"
#include "runtime/runtime_model.h"
#include "runtime/session.h"
#include "verify/verify.h"

namespace pq::runtime {
namespace {

namespace fs = std::filesystem;
using io::testing::TemporaryDirectory;

/// The small model of io's tests with values that a forward pass can bear.
fs::path make_unquantized(const TemporaryDirectory& directory, bool tied) {
  const fs::path path = directory.path() / (tied ? "tied" : "untied");
  Json config = io::testing::small_config();
  config["tie_word_embeddings"] = tied;
  ModelSpec spec = small_spec(16, 20, 4, 2, 4);
  spec.vocab_size = 11;
  spec.tied_embeddings = tied;
  io::testing::write_checkpoint(path, config, io::required_tensors(spec));
  return path;
}

/// A quantized checkpoint whose numbers are those of random_source.
fs::path make_quantized(const TemporaryDirectory& directory, const std::string& recipe_name) {
  const fs::path source_path = make_unquantized(directory, false);
  const auto original = io::HfCheckpoint::open(source_path.string());
  const Recipe recipe = named_recipe(recipe_name);
  const ModelSource source = random_source(original.spec(), recipe, 2);
  const fs::path out = directory.path() / recipe_name;
  io::QuantizedCheckpointWriter writer(original, out,
                                       io::checkpoint_header(source.spec, recipe, source.prefix.token_ids), false);
  const auto halves = [](const io::TensorView& view) {
    return std::span(reinterpret_cast<const std::uint16_t*>(view.bytes.data()), view.bytes.size() / 2);
  };
  writer.append_rows(tensor_names::embedding, halves(source.embedding));
  for (std::int64_t i = 0; i < source.spec.block_count; ++i) {
    BlockSource block = source.block(i);
    for (const LinearId id : all_linears) {
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(block.weights[id].bytes.data());
      block.parameters.linears[id].codes.assign(bytes, bytes + block.weights[id].bytes.size());
    }
    writer.write_block(i, block.parameters);
  }
  writer.write_final_norm(source.final_norm);
  writer.append_rows(tensor_names::lm_head, halves(source.lm_head));
  writer.write_prefix(source.prefix);
  writer.commit();
  return out;
}

const std::vector<std::int32_t> some_tokens{1, 5, 10, 0, 3, 3, 7, 2, 9};

void expect_verified(const std::string& path, const ModelOptions& options) {
  const auto model = Model::load(path, options);
  const VerifyReport report = verify(*model, open_model(path), some_tokens);
  for (const VerifyRow& row : report.rows) EXPECT_TRUE(row.passed()) << path << ": " << row.tensor << " " << row.share;
}

TEST(Checkpoint, QuantizedModelsAgreeWithTheReference) {
  const TemporaryDirectory directory;
  for (const std::string& recipe : recipe_names()) {
    expect_verified(make_quantized(directory, recipe).string(), {});
    expect_verified((directory.path() / recipe).string(), {.lm_head_bits = 8, .kv_bits = 16});
    fs::remove_all(directory.path() / "untied");
  }
}

TEST(Checkpoint, UnquantizedModelsAgreeWithTheReference) {
  const TemporaryDirectory directory;
  for (const bool tied : {false, true}) {
    const std::string path = make_unquantized(directory, tied).string();
    expect_verified(path, {});
    expect_verified(path, {.lm_head_bits = 8, .kv_bits = 32});
  }
}

TEST(Checkpoint, RuntimeModelGivesTheLogitsOfSessions) {
  const TemporaryDirectory directory;
  const auto model = Model::load(make_quantized(directory, "w4a8kv4-static").string(), {});
  RuntimeModel language_model(model);
  std::vector<std::int32_t> two(some_tokens);
  two.insert(two.end(), some_tokens.rbegin(), some_tokens.rend());
  language_model.run(two, 2);
  std::vector<float> logits(two.size() * 11);
  language_model.logits(0, static_cast<std::int64_t>(two.size()), logits);
  for (std::size_t sequence = 0; sequence < 2; ++sequence) {
    Session session(model, 9);
    session.append(std::span(two).subspan(9 * sequence, 9));
    for (std::size_t v = 0; v < 11; ++v) {
      EXPECT_NEAR(session.logits()[v], logits[(9 * sequence + 8) * 11 + v], 1e-5F) << sequence;
    }
  }
  EXPECT_THROW(language_model.logits(10, 9, logits), InputError);
  EXPECT_THROW(language_model.run(two, 4), InputError);
  EXPECT_THROW(language_model.run(std::vector<std::int32_t>{11}, 1), InputError);
}

TEST(Checkpoint, OptionsThatAreNotAllowedAreRefused) {
  const TemporaryDirectory directory;
  const std::string path = make_unquantized(directory, false).string();
  EXPECT_THROW(Model::load(path, {.lm_head_bits = 4}), InputError);
  EXPECT_THROW(Model::load(path, {.kv_bits = 4}), InputError);
}

// Any byte of the file may be wrong: the loader refuses it, or the model runs.
TEST(Checkpoint, DamagedFilesAreRefusedOrHarmless) {
  const TemporaryDirectory directory;
  for (const char* recipe : {"w4a4kv4-static", "w3a16g128"}) {
    const fs::path path = make_quantized(directory, recipe) / "model.safetensors";
    fs::remove_all(directory.path() / "untied");
    const std::string bytes = io::testing::read_bytes(path);
    Random random(7, recipe);
    int refused = 0;
    for (int i = 0; i < 200; ++i) {
      std::string damaged = bytes;
      for (int changes = 0; changes < 3; ++changes)
        damaged[random.below(damaged.size())] = static_cast<char>(random.next());
      if (i % 10 == 0) damaged.resize(random.below(damaged.size()));
      io::testing::write_bytes(path, damaged);
      try {
        Session session(Model::load(path.parent_path().string(), {}), 16);
        session.append(some_tokens);
        session.logits();
      } catch (const Error& error) {
        ++refused;
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      }
    }
    EXPECT_GT(refused, 20);
  }
}

}  // namespace
}  // namespace pq::runtime
