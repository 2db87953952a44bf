#include "exchange/gguf_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "base/error.h"

namespace pq::exchange {
namespace {

constexpr double tolerance = 1e-6;  // float32 has 6e-8

bool alike(double a, double b) { return std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b)); }

bool alike(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) return alike(a.get<double>(), b.get<double>());
  return a == b;
}

class Writer {
 public:
  Writer(GgufKeys& keys, const ModelSpec& spec, const io::GgufArchitecture& architecture, std::string_view where)
      : keys_(keys), spec_(spec), architecture_(architecture), where_(where) {}

  ArchitectureKeys add() {
    u32("block_count", spec_.block_count);
    u32("context_length", spec_.max_positions);
    u32("embedding_length", spec_.hidden_size);
    u32("feed_forward_length", spec_.intermediate_size);
    u32("attention.head_count", spec_.head_count);
    u32("attention.head_count_kv", spec_.kv_head_count);
    u32("attention.key_length", spec_.head_dim);
    u32("attention.value_length", spec_.head_dim);
    u32("rope.dimension_count", spec_.rotary_channels());
    u32("vocab_size", spec_.vocab_size);
    f32("attention.layer_norm_rms_epsilon", spec_.rms_norm_eps);
    if (architecture_.rope_pairs && spec_.rotary_channels() != spec_.head_dim) {
      refuse("partial_rotary_factor", "turns a part of each head");
    }
    add_windows();
    add_rope();
    add_scales();
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse(std::string_view field, std::string_view what) const {
    throw UnsupportedError(
        where_, fmt::format("{} {}, which llama.cpp's '{}' does not compute", field, what, architecture_.name),
        "this model cannot be exported to GGUF");
  }
  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_.name, name); }
  void u32(std::string_view name, std::int64_t value) { keys_.u32(key(name), value); }
  void f32(std::string_view name, double value) { keys_.f32(key(name), value); }

  void add_windows() {
    const std::int64_t window = spec_.largest_window();
    if (window == 0) return;
    if (drops_windows(spec_, architecture_)) {
      result_.notes.push_back(fmt::format(
          "the sliding window of {} tokens (llama.cpp lets these models see all, and gives the same up to that length)",
          window));
      return;
    }
    if (!spec_.family->local_rope && spec_.family->model_type != "phi3") refuse("sliding_window", "is in use");
    u32("attention.sliding_window", window);
    std::vector<bool> sliding;
    for (std::int64_t block = 0; block < spec_.block_count; ++block) {
      const std::int64_t of_block = spec_.window_of_block(block);
      if (of_block != 0 && of_block != window) refuse("sliding_window", "differs from block to block");
      sliding.push_back(of_block != 0);
    }
    if (spec_.family->local_rope) keys_.booleans(key("attention.sliding_window_pattern"), sliding);
  }

  /// The rotary embedding of the blocks that see all, or of all; those with a window of their own may have another.
  void add_rope() {
    const RopeSpec* full = nullptr;
    const RopeSpec* local = nullptr;
    for (std::int64_t block = 0; block < spec_.block_count; ++block) {
      const RopeSpec& rope = spec_.block(block).rope;
      if (std::holds_alternative<NoRope>(rope)) {
        if (!spec_.family->rope_by_block) refuse("no_rope_layers", "has blocks without a rotary embedding");
        continue;
      }
      const RopeSpec*& of_kind = spec_.family->local_rope && spec_.window_of_block(block) > 0 ? local : full;
      if (of_kind == nullptr) of_kind = &rope;
      if (!(*of_kind == rope)) refuse("rope_scaling", "differs from block to block");
    }
    if (spec_.family->rope_by_block) check_blocks_without_rope();
    if (local != nullptr) {
      const auto* plain = std::get_if<PlainRope>(local);
      if (plain == nullptr) refuse("rope_scaling", "scales the blocks that have a window");
      f32("rope.freq_base_swa", plain->theta);
    }
    if (full != nullptr) std::visit([this](const auto& rope) { add(rope); }, *full);
  }

  /// llama.cpp leaves it out in every fourth block of these models, whatever a file says.
  void check_blocks_without_rope() const {
    constexpr std::int64_t step = 4;
    for (std::int64_t block = 0; block < spec_.block_count; ++block) {
      const bool without = std::holds_alternative<NoRope>(spec_.block(block).rope);
      if (without != ((block + 1) % step == 0)) refuse("no_rope_layers", "is not every fourth block");
    }
  }

  void add(const NoRope& /*rope*/) {}
  void add(const PlainRope& rope) { f32("rope.freq_base", rope.theta); }
  void add(const LinearRope& rope) {
    f32("rope.freq_base", rope.theta);
    keys_.text(key("rope.scaling.type"), "linear");
    f32("rope.scaling.factor", rope.factor);
  }
  void add(const ScaledRope& rope) {
    f32("rope.freq_base", rope.theta);
    add_factors(PlainRope{rope.theta}, rope);
  }
  void add(const LongRope& rope) {
    if (rope.amplitude != 1 || architecture_.name == "phi3") refuse("rope_scaling", "is LongRoPE");
    f32("rope.freq_base", rope.theta);
    add_factors(PlainRope{rope.theta}, rope);
  }
  void add(const YarnRope& rope) {
    if (!rope.truncate) refuse("rope_scaling.truncate", "is false");
    f32("rope.freq_base", rope.theta);
    keys_.text(key("rope.scaling.type"), "yarn");
    f32("rope.scaling.factor", rope.factor);
    u32("rope.scaling.original_context_length", rope.original_positions);
    f32("rope.scaling.yarn_beta_fast", rope.beta_fast);
    f32("rope.scaling.yarn_beta_slow", rope.beta_slow);
    const double usual = 1 + 0.1 * std::log(rope.factor);
    if (!alike(rope.amplitude, usual)) f32("rope.scaling.yarn_attn_factor", rope.amplitude / usual);
  }

  void add_factors(const RopeSpec& plain, const RopeSpec& scaled) {
    const std::vector<double> from = rope_frequencies(plain, spec_.rotary_channels());
    const std::vector<double> to = rope_frequencies(scaled, spec_.rotary_channels());
    for (std::size_t i = 0; i < from.size(); ++i) result_.rope_factors.push_back(static_cast<float>(from[i] / to[i]));
  }

  void add_scales() {
    if (spec_.family->multipliers) {
      f32("embedding_scale", spec_.embedding_scale);
      f32("residual_scale", spec_.residual_scale);
      f32("attention.scale", spec_.score_scale());
      f32("logit_scale", 1 / spec_.logit_scale);
    } else if (spec_.residual_scale != 1 || spec_.logit_scale != 1 ||
               (spec_.embedding_scale != 1 && !spec_.family->scaled_embedding)) {
      refuse("embedding_multiplier", "or another multiplier is not 1");
    }
    if (spec_.score_soft_cap != 0 || spec_.logit_soft_cap != 0) refuse("logit_softcapping", "is in use");
  }

  GgufKeys& keys_;
  const ModelSpec& spec_;
  const io::GgufArchitecture& architecture_;
  std::string_view where_;
  ArchitectureKeys result_;
};

void compare_ropes(const ModelSpec& spec, const ModelSpec& written, std::int64_t block) {
  const RopeSpec& ours = spec.block(block).rope;
  const RopeSpec& theirs = written.block(block).rope;
  const std::vector<double> a = rope_frequencies(ours, spec.rotary_channels());
  const std::vector<double> b = rope_frequencies(theirs, spec.rotary_channels());
  constexpr double of_factors = 1e-4;  // what io/gguf_config takes for Llama 3's four numbers
  const bool same = std::equal(a.begin(), a.end(), b.begin(), b.end(),
                               [](double x, double y) { return std::abs(x - y) <= of_factors * std::abs(x); });
  if (!same || !alike(rope_amplitude(ours), rope_amplitude(theirs))) {
    throw std::logic_error(fmt::format("the rotary embedding of block {} did not survive", block));
  }
}

}  // namespace

const io::GgufArchitecture& architecture_for(const ModelSpec& spec, std::string_view where) {
  const io::GgufArchitecture* found = io::gguf_architecture_of(spec.family->model_type);
  if (found != nullptr) return *found;
  throw UnsupportedError(where,
                         fmt::format("GGUF has no architecture for '{}' that is known here", spec.family->model_type),
                         "this model cannot be exported to GGUF");
}

bool drops_windows(const ModelSpec& spec, const io::GgufArchitecture& architecture) {
  return spec.largest_window() > 0 && architecture.model_type != spec.family->model_type;
}

ArchitectureKeys add_architecture(GgufKeys& keys, const ModelSpec& spec, const io::GgufArchitecture& architecture,
                                  std::string_view where) {
  return Writer(keys, spec, architecture, where).add();
}

void compare_specs(const ModelSpec& spec, const ModelSpec& written, bool windows_dropped) {
  for (const ModelSpecField& field : model_spec_fields()) {
    if (!field.computes || field.key == "family" || field.key == "block_pattern" || field.key == "norm_offset")
      continue;
    if (alike(field.get(spec), field.get(written))) continue;
    throw std::logic_error(fmt::format("field {} of the model is {}, and read back {}", field.key,
                                       field.get(spec).dump(), field.get(written).dump()));
  }
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    compare_ropes(spec, written, block);
    if (!windows_dropped && spec.window_of_block(block) != written.window_of_block(block)) {
      throw std::logic_error(fmt::format("the sliding window of block {} did not survive", block));
    }
  }
}

}  // namespace pq::exchange
