#include "measure/model_speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/stopwatch.h"
#include "base/suggest.h"
#include "measure/shapes.h"
#include "model/block_formats.h"
#include "runtime/kv_cache.h"
#include "runtime/model_parts.h"
#include "runtime/model_source.h"
#include "runtime/workspace.h"

namespace pq::measure {
namespace {

using runtime::Model;
using runtime::ModelOptions;
using runtime::Session;

constexpr std::string_view unquantized_name = "bf16";
/// As long as those that the paper finds (Table 1).
constexpr std::int64_t random_prefix_tokens = 3;

Recipe bench_recipe(const std::string& name) {
  if (name == unquantized_name) {
    Recipe recipe;
    recipe.name = name;
    recipe.rotate = {ResidualRotation::none, false, false, false};
    return recipe;
  }
  const std::vector<std::string> names = bench_recipe_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw InputError(fmt::format("--recipe {}", name), "there is no recipe of this name", did_you_mean(name, names));
  }
  return named_recipe(name);
}

/// Memory that a model and its sessions take, a little more than less.
std::uint64_t estimate_bytes(const ModelSpec& spec, const Recipe& recipe, int lm_head_bits, bool embedding_in_memory,
                             const std::vector<BenchTest>& tests) {
  constexpr double scales = 12.0 / 128;  // of groups of 128, the smallest usual ones
  const auto bytes_a_weight = [](int bits) { return bits >= 16 ? 2.0 : (bits <= 4 ? bits : 8) / 8.0 + scales; };
  const auto vocabulary = static_cast<double>(spec.vocab_size * spec.hidden_size);
  double bytes = 0;
  std::uint64_t kv_token = 0;
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    const BlockFormats formats = block_formats(recipe, block);
    for (const LinearId id : all_linears) {
      const LinearShape shape = linear_shape(spec, id);
      bytes += static_cast<double>(shape.out_features * shape.in_features) * bytes_a_weight(formats.weight[id].bits);
    }
    kv_token += runtime::plan_kv(spec, formats.site[Site::k_cache], 0).bytes_per_token();
  }
  bytes +=
      vocabulary * (bytes_a_weight(lm_head_bits) + (embedding_in_memory ? 4.0 : 0.0));  // two halves while it is packed
  bytes +=
      static_cast<double>(block_parameters(spec)) * (quantizes_weights(recipe) ? 1.0 : 2.0);  // a block's, unpacked
  std::int64_t tokens = 0;
  for (const BenchTest& test : tests) tokens = std::max(tokens, test.batch * (test.capacity() + 32));
  bytes += static_cast<double>(kv_token * static_cast<std::uint64_t>(tokens));
  bytes += 4.0 * static_cast<double>(runtime::most_rows * (8 * spec.hidden_size + 3 * spec.intermediate_size));
  return static_cast<std::uint64_t>(bytes);
}

/// The products that most of the linear layers' weights take part in.
Products most_products(const ModelSpec& spec, const Recipe& recipe) {
  std::array<std::int64_t, 3> weights{};
  constexpr std::array kinds{Products::floats, Products::wide, Products::bytes};
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    const BlockFormats formats = block_formats(recipe, block);
    for (const LinearId id : all_linears) {
      const LinearShape shape = linear_shape(spec, id);
      const bool bytes = formats.site[input_site(id)].enabled();
      weights.at(!formats.weight[id].enabled() ? 0 : bytes ? 2 : 1) += shape.out_features * shape.in_features;
    }
  }
  return kinds.at(static_cast<std::size_t>(std::max_element(weights.begin(), weights.end()) - weights.begin()));
}

/// What a checkpoint is called in tables: "b" for "a/b/".
std::string name_of(const std::string& model) {
  const auto path = std::filesystem::absolute(model).lexically_normal();
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

}  // namespace

std::vector<std::string> bench_recipe_names() {
  std::vector<std::string> names = recipe_names();
  names.insert(names.begin(), std::string(unquantized_name));
  return names;
}

Subject random_subject(const std::string& shape, const std::string& recipe, int lm_head_bits,
                       const std::vector<BenchTest>& tests) {
  const ModelSpec spec = named_shape(shape);
  const Recipe settings = bench_recipe(recipe);
  const bool quantized = quantizes_weights(settings);
  ModelOptions options;
  options.lm_head_bits = quantized ? lm_head_bits : 16;
  options.bf16_products = !quantized;
  return {.shape = shape,
          .recipe = recipe,
          .group = "shape " + shape,
          .checkpoint = false,
          .quantized = quantized,
          .bytes = estimate_bytes(spec, settings, options.lm_head_bits, true, tests),
          .load = [=] { return Model::random(spec, settings, quantized ? random_prefix_tokens : 0, options); }};
}

Subject checkpoint_subject(const std::string& model, int lm_head_bits, const std::vector<BenchTest>& tests) {
  const runtime::ModelSource source = runtime::open_model(model);
  const bool quantized = quantizes_weights(source.recipe);
  ModelOptions options;
  options.lm_head_bits = quantized ? lm_head_bits : 16;
  options.bf16_products = !quantized;
  const auto& spec = source.spec;
  return {.shape = name_of(model),
          .recipe = quantized ? source.recipe.name + (source.recipe.overrides.empty() ? "" : " mixed") : "",
          .group = fmt::format("{}x{}x{}", spec.block_count, spec.hidden_size, spec.vocab_size),
          .checkpoint = true,
          .quantized = quantized,
          .bytes = estimate_bytes(spec, source.recipe, options.lm_head_bits, false, tests),
          .load = [=] { return Model::load(model, options); }};
}

std::string weight_type(const Model& model) {
  const runtime::PackedLinear& linear = model.parts().blocks.at(0).linears[LinearId::q];
  if (linear.integer()) return precision_name(model.recipe());
  switch (linear.floats().format) {
    case kernels::FloatFormat::f32:
      return "f32";
    case kernels::FloatFormat::f16:
      return "f16";
    case kernels::FloatFormat::bf16:
      return "bf16";
  }
  return {};
}

BenchModel::BenchModel(std::shared_ptr<const Model> model, std::int64_t capacity)
    : model_(std::move(model)), capacity_(capacity), greedy_(SamplingOptions{}), random_(0, "bench") {}

std::int32_t BenchModel::random_token() {
  return static_cast<std::int32_t>(random_.below(static_cast<std::uint64_t>(model_->spec().vocab_size)));
}

void BenchModel::append_random(Session& session, std::int64_t tokens) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  for (std::int32_t& id : ids) id = random_token();
  session.append(ids);
}

void BenchModel::prepare(const BenchTest& test) {
  const auto batch = static_cast<std::size_t>(test.batch);
  while (sessions_.size() > batch) sessions_.pop_back();
  for (std::size_t i = 0; i < batch; ++i) {
    if (i == sessions_.size()) {
      if (i > 0 && test.depth > 0) {
        sessions_.push_back(sessions_[0].fork());
      } else {
        sessions_.emplace_back(model_, capacity_);
      }
    }
    Session& session = sessions_[i];
    if (session.length() < test.depth) append_random(session, test.depth - session.length());
    session.truncate(test.depth);
  }
}

double BenchModel::run(const BenchTest& test) {
  const Stopwatch stopwatch;
  if (test.kind == BenchTest::Kind::prefill) {
    prefill(test);
  } else {
    generate(test);
  }
  return stopwatch.seconds();
}

void BenchModel::prefill(const BenchTest& test) {
  for (Session& session : sessions_) {
    append_random(session, test.tokens);
    greedy_.sample(session.logits());
  }
}

void BenchModel::generate(const BenchTest& test) {
  std::vector<std::int32_t> tokens;
  for (std::size_t i = 0; i < sessions_.size(); ++i) tokens.push_back(random_token());
  std::vector<runtime::SessionTokens> batch;
  for (std::size_t i = 0; i < sessions_.size(); ++i) batch.push_back({&sessions_[i], std::span(tokens).subspan(i, 1)});
  for (std::int64_t step = 0; step < test.tokens; ++step) {
    runtime::append_batch(batch);
    for (std::size_t i = 0; i < sessions_.size(); ++i) tokens[i] = greedy_.sample(sessions_[i].logits());
  }
}

void BenchModel::warm_up() {
  Session session(model_, capacity_);
  const std::int64_t several = std::min<std::int64_t>(capacity_, 256);
  append_random(session, several);
  greedy_.sample(session.logits());
}

Work BenchModel::work_of(const BenchTest& test) const {
  const ModelSpec& spec = model_->spec();
  const Recipe& recipe = model_->recipe();
  const auto sequences = static_cast<double>(test.batch);
  const auto tokens = static_cast<double>(test.tokens);
  const auto weights = static_cast<double>(model_->weight_bytes_per_token());
  Work work;
  work.products = most_products(spec, recipe);
  work.operations = 2.0 * static_cast<double>(block_parameters(spec) * spec.block_count) * tokens * sequences;
  if (test.kind == BenchTest::Kind::prefill) {
    work.few_rows = test.tokens < 32;
    work.bytes = weights * sequences;
    return work;
  }
  work.few_rows = test.batch < 32;
  double kv_tokens = 0;  // that the steps of one sequence read, a block's share each
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    const std::int64_t window = spec.window_of_block(block);
    for (std::int64_t step = 1; step <= test.tokens; ++step) {
      const std::int64_t context = test.depth + step;
      kv_tokens += static_cast<double>(window > 0 ? std::min(window, context) : context);
    }
  }
  kv_tokens /= static_cast<double>(spec.block_count);
  work.bytes = weights * tokens + static_cast<double>(model_->kv_bytes_per_token()) * kv_tokens * sequences;
  return work;
}

}  // namespace pq::measure
