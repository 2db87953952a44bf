#include "nn/transformer.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "base/parallel_for.h"
#include "nn/dense_attention_for_test.h"

namespace pq::nn {
namespace {

namespace fs = std::filesystem;
const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "nn";
const std::string sample_model = (fs::path(PQ_SOURCE_DIR) / "examples" / "sample-model").string();
const auto f64 = at::TensorOptions().dtype(at::kDouble);
const auto f32 = at::TensorOptions().dtype(at::kFloat);

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// Tensors of a golden file, which hold float32 or int32.
class Golden {
 public:
  explicit Golden(const fs::path& path) : file_(path) {}
  at::Tensor operator[](std::string_view name) const {
    const io::TensorView view = file_.tensor(name);
    const bool integers = view.dtype == io::DType::i32;
    at::Tensor out = at::empty(view.shape, integers ? at::kInt : at::kFloat);
    EXPECT_EQ(out.nbytes(), view.bytes.size());
    std::memcpy(out.data_ptr(), view.bytes.data(), view.bytes.size());
    return integers ? out.to(at::kLong) : out;
  }
  std::vector<std::int32_t> tokens(std::string_view name) const {
    const at::Tensor values = (*this)[name].to(at::kInt).contiguous();
    return {values.data_ptr<std::int32_t>(), values.data_ptr<std::int32_t>() + values.numel()};
  }

 private:
  io::SafetensorsFile file_;
};

at::Tensor logits_of(Transformer& model, const at::Tensor& tokens) {
  const at::NoGradGuard no_grad;
  return model.head(model.hidden(tokens));
}

class FamilyTest : public ::testing::TestWithParam<const char*> {
 protected:
  const fs::path directory = goldens / GetParam();
  const io::HfCheckpoint checkpoint = io::HfCheckpoint::open(directory.string());
  const Golden golden{directory / "expected.safetensors"};
  const at::Tensor tokens = golden["tokens"];
};

TEST_P(FamilyTest, LogitsEqualTransformers) {
  const auto model = Transformer::load(checkpoint, f32);
  EXPECT_LE(max_difference(logits_of(*model, tokens), golden["logits"]), 1e-4);

  // The same through the interface of the evaluation, a few rows at a time.
  const std::vector<std::int32_t> flat = golden.tokens("tokens");
  model->run(flat, tokens.size(0));
  const at::Tensor expected = golden["logits"].view({-1, checkpoint.spec().vocab_size});
  at::Tensor rows = at::empty({5, checkpoint.spec().vocab_size}, at::kFloat);
  for (std::int64_t first = 0; first + 5 <= expected.size(0); first += 4) {
    model->logits(first, 5, {rows.data_ptr<float>(), static_cast<std::size_t>(rows.numel())});
    EXPECT_LE(max_difference(rows, expected.narrow(0, first, 5)), 1e-4);
  }
}

class PrefixTest : public FamilyTest {};

TEST_P(PrefixTest, LogitsBehindAPrefixEqualTransformersOnTheJoinedSequence) {
  const at::NoGradGuard no_grad;
  const auto model = Transformer::load(checkpoint, f32);
  const std::vector<KeyValue> prefix = model->prefix_key_values(golden.tokens("prefix"));
  const std::int64_t length = prefix.front().length();

  // With K and V as computed: set_prefix would round them to binary16.
  const ModelContext contexts(checkpoint.spec(), {}, 64, f32);
  at::Tensor x = embed(checkpoint, tokens, f32);
  for (std::int64_t i = 0; i < checkpoint.spec().block_count; ++i) {
    const BlockContext context = contexts.block(i, &prefix[static_cast<std::size_t>(i)]);
    x = forward(load_block(checkpoint, i, f32), context, x);
  }
  x = rms_norm(x, load_tensor(checkpoint, tensor_names::final_norm, f32), checkpoint.spec().rms_norm_eps);
  EXPECT_LE(max_difference(model->head(x), golden["prefixed_logits"]), 1e-4);
  EXPECT_GT(max_difference(golden["logits"], golden["prefixed_logits"]), 0.05);

  model->set_prefix(prefix);
  EXPECT_EQ(model->prefix_length(), length);
  EXPECT_LE(max_difference(logits_of(*model, tokens), golden["prefixed_logits"]), 0.05);
  model->set_prefix({});
  EXPECT_EQ(model->prefix_length(), 0);
  EXPECT_LE(max_difference(logits_of(*model, tokens), golden["logits"]), 1e-4);
}

TEST_P(FamilyTest, PinnedPrefixEqualsDenseMasks) {
  const at::NoGradGuard no_grad;
  const auto model = Transformer::load(checkpoint, f64);
  std::vector<KeyValue> prefix = model->prefix_key_values({3, 14, 15, 92, 65, 35, 8, 9, 7});
  const std::int64_t length = prefix.front().length();
  model->set_prefix(prefix);

  const ModelSpec& spec = checkpoint.spec();
  const ModelContext contexts(spec, {}, 64, f64);
  at::Tensor x = embed(checkpoint, tokens, f64);
  for (std::int64_t i = 0; i < spec.block_count; ++i) {
    const Block block = load_block(checkpoint, i, f64);
    const BlockContext context = contexts.block(i);
    Qkv qkv = project_qkv(block, context, qkv_input(block, context, x, {}), length, {});
    const auto behind = [&](const at::Tensor& fixed, const at::Tensor& own) {
      return at::cat({fixed.to(at::kHalf).to(at::kDouble).expand({own.size(0), -1, -1, -1}), own}, 1);
    };
    qkv.k = behind(prefix[static_cast<std::size_t>(i)].key, qkv.k);
    qkv.v = behind(prefix[static_cast<std::size_t>(i)].value, qkv.v);
    const at::Tensor mixed = dense_attention(qkv, length, spec.window_of_block(i), spec.score_scale());
    x = attention_output(block, context, x, o_input(context, mixed), {});
    x = mlp_output(block, context, x, gated_product(block, context, gate_up_input(block, context, x, {}), {}), {});
  }
  x = rms_norm(x, load_tensor(checkpoint, tensor_names::final_norm, f64), spec.rms_norm_eps);
  EXPECT_LE(max_difference(model->hidden(tokens), x), 1e-11);
}

TEST_P(FamilyTest, SamplesWhatFullPassesWouldSample) {
  const auto model = Transformer::load(checkpoint, f64);
  model->set_prefix(model->prefix_key_values({5, 1}));
  const std::uint64_t seed = 11;
  const auto sequences = model->sample(3, 24, 1, seed);
  ASSERT_EQ(sequences.size(), 3);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    ASSERT_EQ(sequences[i].size(), 24);
    EXPECT_EQ(sequences[i][0], 1);
    at::Tensor ids = at::empty({1, 24}, at::kLong);
    std::copy(sequences[i].begin(), sequences[i].end(), ids.data_ptr<std::int64_t>());
    const at::Tensor probabilities = at::softmax(logits_of(*model, ids).to(at::kFloat), -1);
    Random random(seed, fmt::format("sampled sequence {}", i));
    for (std::int64_t t = 0; t + 1 < 24; ++t) {
      const double below = random.uniform();
      const at::Tensor sums = probabilities[0][t].to(at::kDouble).cumsum(0);
      EXPECT_EQ((sums <= below).sum().item<std::int64_t>(), ids[0][t + 1].item<std::int64_t>()) << "token " << t + 1;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, FamilyTest,
                         ::testing::Values("llama-gqa", "llama-tied-head-dim", "mistral-window", "qwen2-tied",
                                           "qwen2-window", "llama-rope-llama3", "llama-rope-linear", "qwen2-yarn",
                                           "qwen3", "ministral-window", "phi3-longrope-short", "phi3-window", "smollm3",
                                           "granite", "gemma3-window", "olmo2"));

// Not the sliding ones: transformers does not pin a prefix in a window. PinnedPrefixEqualsDenseMasks has those.
INSTANTIATE_TEST_SUITE_P(Goldens, PrefixTest,
                         ::testing::Values("llama-gqa", "llama-tied-head-dim", "qwen2-tied", "llama-rope-llama3",
                                           "llama-rope-linear", "qwen2-yarn", "qwen3", "phi3-longrope-short", "smollm3",
                                           "granite", "olmo2"));

TEST(Transformer, SampleModelEqualsTransformers) {
  const Golden golden(goldens / "sample-model.safetensors");
  const auto model = Transformer::load(io::HfCheckpoint::open(sample_model), f32);
  const at::Tensor logits = logits_of(*model, golden["tokens"])[0];
  EXPECT_LE(max_difference(logits.index_select(0, golden["rows"]), golden["logits"]), 1e-4);
}

TEST(Transformer, SamplesDependOnSeedAlone) {
  const auto model = Transformer::load(io::HfCheckpoint::open((goldens / "llama-gqa").string()), f32);
  std::vector<std::int64_t> reported;
  const auto eight = model->sample(70, 20, 1, 5, [&](std::int64_t done, std::int64_t total) {
    EXPECT_EQ(total, 70 * 20);
    reported.push_back(done);
  });
  EXPECT_TRUE(std::is_sorted(reported.begin(), reported.end()));
  EXPECT_EQ(reported.back(), 70 * 20);
  const int torch_threads = at::get_num_threads();
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    at::set_num_threads(threads);
    const auto three = model->sample(3, 20, 1, 5);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(three[i], eight[i]);
  }
  set_thread_count(0);
  at::set_num_threads(torch_threads);
  EXPECT_NE(model->sample(1, 20, 1, 6)[0], eight[0]);
  EXPECT_NE(eight[1], eight[0]);
  EXPECT_TRUE(model->sample(0, 20, 1, 5).empty());
}

TEST(Transformer, SampledTokensFollowTheModelsDistribution) {
  const auto model = Transformer::load(io::HfCheckpoint::open((goldens / "llama-gqa").string()), f32);
  const std::int64_t draws = 4000;
  at::Tensor counts = at::zeros({97}, at::kDouble);
  for (const auto& sequence : model->sample(draws, 2, 1, 3)) counts[sequence[1]] += 1;
  const at::Tensor expected =
      at::softmax(logits_of(*model, at::full({1, 1}, 1, at::kLong))[0][0].to(at::kDouble), -1) * draws;
  // Chi-square over the tokens expected at least 5 times: mean n, standard deviation sqrt(2 n).
  const at::Tensor often = expected >= 5;
  const double statistic = ((counts - expected).square() / expected).masked_select(often).sum().item<double>();
  const double n = often.sum().item<double>();
  EXPECT_GT(n, 30);
  EXPECT_LT(statistic, n + 5 * std::sqrt(2 * n));
}

TEST(Transformer, BFloat16StaysNearFloat32) {
  const io::HfCheckpoint checkpoint = io::HfCheckpoint::open((goldens / "mistral-window").string());
  const Golden golden(goldens / "mistral-window" / "expected.safetensors");
  const auto model = Transformer::load(checkpoint, at::TensorOptions().dtype(at::kBFloat16));
  const at::Tensor logits = logits_of(*model, golden["tokens"]);
  EXPECT_EQ(logits.scalar_type(), at::kBFloat16);
  EXPECT_LT(max_difference(logits, golden["logits"]), 0.4);
}

TEST(Transformer, TapsOfEveryBlockAreUsed) {
  const io::HfCheckpoint checkpoint = io::HfCheckpoint::open((goldens / "llama-gqa").string());
  const Golden golden(goldens / "llama-gqa" / "expected.safetensors");
  std::vector<std::int64_t> visits(2);
  Transformer::Parts parts;
  parts.spec = checkpoint.spec();
  parts.embedding = load_tensor(checkpoint, tensor_names::embedding, f32);
  parts.final_norm = load_tensor(checkpoint, tensor_names::final_norm, f32);
  parts.lm_head = load_tensor(checkpoint, tensor_names::lm_head, f32);
  parts.blocks = {load_block(checkpoint, 0, f32), load_block(checkpoint, 1, f32)};
  parts.transforms.assign(static_cast<std::size_t>(parts.spec.block_count),
                          online_rotations(parts.spec, {.r3 = true, .r4 = false}));
  parts.taps = [&](std::int64_t block) -> Tap {
    return [&visits, block](Site, const at::Tensor& x) {
      ++visits[static_cast<std::size_t>(block)];
      return x;
    };
  };
  Transformer model(std::move(parts));
  EXPECT_LE(max_difference(logits_of(model, golden["tokens"]), golden["logits"]), 1e-4);
  EXPECT_THAT(visits, ::testing::Each(10));
}

TEST(Transformer, PrefixIsRoundedToBinary16) {
  const auto model = Transformer::load(io::HfCheckpoint::open((goldens / "llama-gqa").string()), f32);
  std::vector<KeyValue> prefix = model->prefix_key_values({4, 1});
  std::vector<KeyValue> rounded;
  for (const KeyValue& block : prefix) {
    rounded.push_back({block.key.to(at::kHalf).to(at::kFloat), block.value.to(at::kHalf).to(at::kFloat)});
  }
  EXPECT_GT(max_difference(prefix[0].key, rounded[0].key), 0);
  const at::Tensor tokens = at::arange(12, at::kLong).unsqueeze(0);
  model->set_prefix(prefix);
  const at::Tensor logits = logits_of(*model, tokens);
  model->set_prefix(rounded);
  EXPECT_EQ(max_difference(logits_of(*model, tokens), logits), 0);
  prefix.pop_back();
  EXPECT_THROW(model->set_prefix(prefix), InputError);
  rounded[1].value = rounded[1].value * 1e6;
  EXPECT_THROW(model->set_prefix(rounded), InputError);
}

TEST(Transformer, RefusesWhatIsOutsideItsRange) {
  const auto model = Transformer::load(io::HfCheckpoint::open((goldens / "llama-gqa").string()), f32);
  std::vector<float> row(97);
  EXPECT_THROW(model->logits(0, 1, row), InputError);
  const auto message_of = [&](std::vector<std::int32_t> tokens, std::int64_t sequences) -> std::string {
    try {
      model->run(tokens, sequences);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message_of({1, 97}, 1), ::testing::HasSubstr("token id 97 is outside the vocabulary of 97"));
  EXPECT_THAT(message_of({-1, 3}, 1), ::testing::HasSubstr("token id -1"));
  EXPECT_THAT(message_of({1, 2, 3}, 2), ::testing::HasSubstr("3 tokens cannot be split into 2 sequences"));
  EXPECT_THAT(message_of({}, 1), ::testing::HasSubstr("0 tokens"));
  EXPECT_THAT(message_of({1, 2}, 0), ::testing::HasSubstr("0 sequences"));
  EXPECT_EQ(message_of({1, 2}, 1), "no error");
  EXPECT_THROW(model->logits(1, 2, row), InputError);
  EXPECT_THROW(model->logits(-1, 1, row), InputError);
  EXPECT_THROW(model->logits(0, 1, std::span(row).first(96)), InputError);
  EXPECT_NO_THROW(model->logits(1, 1, row));
  EXPECT_THROW(model->sample(1, 0, 1, 0), InputError);
  EXPECT_THROW(model->sample(1, 4, 97, 0), InputError);
  EXPECT_THROW(model->prefix_key_values({97}), InputError);
  // Longer than max_position_embeddings: the rotary table grows.
  EXPECT_EQ(message_of(std::vector<std::int32_t>(100, 1), 1), "no error");
}

class DamagedCheckpoint : public ::testing::Test {
 protected:
  DamagedCheckpoint() {
    fs::remove_all(directory);
    fs::create_directories(directory);
    for (const char* file : {"config.json", "model.safetensors"})
      fs::copy(goldens / "llama-gqa" / file, directory / file);
  }
  ~DamagedCheckpoint() override { fs::remove_all(directory); }

  /// Overwrites one float32 of `tensor`.
  void poison(std::string_view tensor, std::size_t element, float value) {
    std::ptrdiff_t offset = 0;
    {
      const io::SafetensorsFile file(directory / "model.safetensors");
      const MappedFile map(directory / "model.safetensors");
      const auto bytes = file.tensor(tensor).bytes;
      const auto found = std::search(map.bytes().begin(), map.bytes().end(), bytes.begin(), bytes.end());
      ASSERT_NE(found, map.bytes().end());
      offset = found - map.bytes().begin();
    }
    std::fstream out(directory / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(offset + static_cast<std::ptrdiff_t>(element * sizeof value));
    out.write(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <typename Work>
  std::string message_of(const Work& work) {
    try {
      work();
    } catch (const FormatError& error) {
      return error.what();
    }
    return "no error";
  }

  const fs::path directory = fs::path(::testing::TempDir()) / fmt::format("pq-nn-damaged-{}", ::getpid());
};

TEST_F(DamagedCheckpoint, WeightsThatAreNotFiniteAreRefusedByName) {
  poison("model.layers.1.mlp.up_proj.weight", 77, std::numeric_limits<float>::quiet_NaN());
  poison("model.embed_tokens.weight", 48 * 9 + 3, -std::numeric_limits<float>::infinity());
  const io::HfCheckpoint checkpoint = io::HfCheckpoint::open(directory.string());
  EXPECT_EQ(message_of([&] { load_block(checkpoint, 0, f32); }), "no error");
  EXPECT_THAT(message_of([&] { load_block(checkpoint, 1, f32); }),
              ::testing::ContainsRegex(
                  "model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight' holds NaN or infinity; .+"));
  EXPECT_THAT(message_of([&] { load_tensor(checkpoint, tensor_names::embedding, f32); }),
              ::testing::HasSubstr("tensor 'model.embed_tokens.weight' holds NaN or infinity"));
  // Only the rows that are asked for are read.
  EXPECT_EQ(message_of([&] { embed(checkpoint, at::full({1, 2}, 8, at::kLong), f32); }), "no error");
  EXPECT_THAT(message_of([&] {
                embed(checkpoint, at::full({1, 2}, 9, at::kLong), f32);
              }),
              ::testing::HasSubstr("embed_tokens"));
}

TEST(Checkpoint, EmbeddingRowsAreThoseOfTheTable) {
  const io::HfCheckpoint checkpoint = io::HfCheckpoint::open((goldens / "mistral-window").string());
  const at::Tensor tokens = at::randint(97, {3, 5}, at::kLong);
  const at::Tensor table = load_tensor(checkpoint, tensor_names::embedding, f32);
  EXPECT_EQ(max_difference(embed(checkpoint, tokens, f32), at::embedding(table, tokens)), 0);
  EXPECT_THROW(embed(checkpoint, at::full({1, 1}, 97, at::kLong), f32), InputError);
  EXPECT_THROW(load_tensor(checkpoint, "model.layers.0.input_layernorm.weight", f32), InputError);
}

}  // namespace
}  // namespace pq::nn
