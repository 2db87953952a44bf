#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/block_layout.h"
#include "numerics/scale_type.h"

namespace pq {

/// Scales computed while the model runs, or once from calibration data.
enum class ScaleMode { dynamic_scale, static_scale };

/// What shares one scale (paper, Table 1). Weights: channel or group. Activations: tensor, token or group (channels of
/// one token). KV cache: head (one scale a KV head), token (all heads of one token) or group (min(group, head_dim)
/// channels).
enum class Granularity { tensor, token, channel, head, group };

/// One quantizer's format. `bits` 2..8, or 16 for none.
struct QuantizerFormat {
  int bits = 16;
  bool symmetric = true;
  ScaleMode mode = ScaleMode::dynamic_scale;
  Granularity granularity = Granularity::token;
  std::int64_t group =
      0;            ///< channels in a group (the last group of a row takes the rest); only for Granularity::group
  double clip = 1;  ///< factor of the range where none is searched; symmetric 4-bit scales are absmax / 7.5 at 1
  bool two_level = false;  ///< group scales are whole multiples of a float channel scale: numerics/two_level.h
  ScaleType scale_type = ScaleType::float32;  ///< of weights; 16 bits: scales and zero points that other programs hold

  bool enabled() const { return bits < 16; }
  /// Scales of `channels` channels that are not split otherwise: one a group, or one.
  std::int64_t groups(std::int64_t channels) const {
    return granularity == Granularity::group ? (channels + group - 1) / group : 1;
  }
  bool is_static() const { return mode == ScaleMode::static_scale; }
  bool operator==(const QuantizerFormat&) const = default;
};

/// Which rotations are applied (ALGORITHM.md section 4).
/// R1: fused into the weights around the residual stream, or a Hadamard transform of the inputs of q, k, v and of gate,
/// up. Fusing needs a stream on which everything is a linear map or a norm whose weight only linears read: the norms
/// behind a block that Gemma and OLMo 2 have are not (ALGORITHM.md section 4).
enum class ResidualRotation { automatic, fused, online, none };

struct RotationSettings {
  ResidualRotation r1 = ResidualRotation::automatic;  ///< automatic: fused where the family allows it, else online
  bool r2 = true;                                     ///< V and o_proj, per head, fused
  bool r3 = true;                                     ///< Q and K after RoPE, online
  bool r4 = true;                                     ///< input of down_proj, online
  bool heads = false;                                 ///< input of o_proj over all heads (QuaRot), online
  bool signs = false;                                 ///< R2 and R4 behind random signs, as R1 is; fused
  bool any() const { return r1 != ResidualRotation::none || r2 || r3 || r4 || heads; }
  bool operator==(const RotationSettings&) const = default;
};

struct PrefixSettings {
  std::string tokens = "auto";  ///< auto, none, ids:1,2, random:N, top1:N, or text to tokenize
  std::int64_t count = -1;      ///< keep the last-in-frequency cut to this many tokens, BOS included; -1: as found
  double upper_threshold = 64;  ///< an upper outlier has a ratio to the median above this
  double lower_threshold = 8;   ///< a lower outlier has a ratio to the median below 1/this
  double min_frequency = 0.05;  ///< ids found in a smaller share of the sequences are noise
  bool operator==(const PrefixSettings&) const = default;
};

struct SearchSettings {
  bool weight = true;             ///< search clip factors of weights
  bool activation = true;         ///< search scales or clip factors of linear inputs
  bool kv = true;                 ///< search scales or clip factors of K and V
  bool gptq = true;               ///< round weights with error compensation (GPTQ) instead of to the nearest code
  double weight_step = 0.05;      ///< step of the weight clip factor
  double weight_min = 0.55;       ///< its smallest value
  std::int64_t samples = 8;       ///< sequences the search runs on
  std::int64_t length = 1024;     ///< tokens a sequence; a model with a shorter context gets more and shorter sequences
  std::int64_t positions = 8192;  ///< K is looked at as far behind the prefix, or to the end of a shorter context
  std::int64_t gptq_samples = 0;  ///< sequences whose X^T X GPTQ sees; 0: those of the search
  std::int64_t gptq_length = 2048;  ///< tokens in each of them
  bool exhaustive = false;          ///< every point of the grids, through the whole block: the reference of the search
  bool operator==(const SearchSettings&) const = default;
};

/// What a fine-tuned block has to reproduce.
enum class TuningTarget {
  full_precision,  ///< the full-precision block on the full-precision stream
  quantized,       ///< the full-precision block on the stream that comes through the quantized blocks
  both,            ///< the mean of both losses
};

/// How a token's squared error counts.
enum class TuningLoss {
  mse,         ///< every token's as it is
  normalized,  ///< over the mean square of its target: the norms that read the stream make all tokens the same size
};

/// The arithmetic of a tuning step; parameters and optimizer are float32 always.
enum class ComputeType { float32, bf16 };

/// Block-wise fine-tuning (ALGORITHM.md section 7; paper sections 4.3 and F; EfficientQAT, arXiv 2407.11062).
struct FinetuneSettings {
  std::int64_t epochs = 0;       ///< passes of every block over the tuning sequences; 0: none; -1: see resolve()
  std::int64_t samples = 512;    ///< tuning sequences
  std::int64_t length = 1024;    ///< tokens a sequence; a model with a shorter context gets more and shorter ones
  std::int64_t validation = 64;  ///< sequences held back: they judge, they do not tune
  std::int64_t batch = 4;        ///< sequences a step
  double weight_rate = 1e-4;     ///< learning rate of the weights; 0: weights stay
  double quantizer_rate = 2e-5;  ///< of scales, zero points and clip factors; 0: they stay
  bool relative_rates = true;    ///< all rates stand for a scale of 0.01 and grow in proportion to each tensor's own
  TuningTarget target = TuningTarget::full_precision;
  TuningLoss loss = TuningLoss::normalized;
  bool skip_mse = false;     ///< leave each sequence's 3 tokens of largest mean |target| out of the loss
  double clip_gradient = 0;  ///< largest norm of all gradients of a step together; 0: no limit
  ComputeType compute = ComputeType::float32;
  std::int64_t e2e_epochs = 0;  ///< passes of the second phase: weight scales alone, end to end (E2E-QP); 0: none
  double e2e_rate = 1e-4;       ///< its learning rate
  bool enabled() const { return epochs != 0 || e2e_epochs != 0; }
  bool operator==(const FinetuneSettings&) const = default;
};

struct CalibrationSettings {
  std::string source = "self";  ///< "self" (sampled from the model), or the name of the text it came from
  std::int64_t samples = 32;    ///< sequences for outlier detection and statistics
  std::int64_t length = 512;    ///< tokens a sequence
  bool operator==(const CalibrationSettings&) const = default;
};

/// Blocks `first` to `last`, both included.
struct BlockRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
  bool operator==(const BlockRange&) const = default;
};

/// A format field that some blocks or linear layers have otherwise than the recipe says for all of them. Its notation:
/// model/format_override.h. An activation format belongs to what linear layers read, so q, k and v share one, and gate
/// and up; K and V are a block's.
struct FormatOverride {
  std::optional<BlockRange> blocks;  ///< nullopt: all
  std::optional<LinearId> linear;    ///< nullopt: all
  std::string field;                 ///< key of a recipe field of weight, activation or kv
  std::string value;                 ///< as the field's `set` takes it

  bool covers(std::int64_t block) const { return !blocks || (block >= blocks->first && block <= blocks->last); }
  bool operator==(const FormatOverride&) const = default;
};

/// Everything that decides what `quantize` computes. Written into the checkpoint; the field table below drives --set,
/// JSON and help alike.
struct Recipe {
  std::string name = "custom";
  // Of all blocks and linear layers that no override speaks of: ask block_formats() for those of a block.
  QuantizerFormat weight{16, true, ScaleMode::static_scale, Granularity::channel, 0};
  QuantizerFormat activation{16, true, ScaleMode::dynamic_scale, Granularity::token, 128};
  QuantizerFormat kv{16, true, ScaleMode::dynamic_scale, Granularity::group, 128};
  bool kv_symmetry_by_calibration = false;  ///< kv.symmetric is still to be decided
  bool kv_center_keys = false;              ///< take the mean out of K: see BlockFormats
  bool kv_balance_keys = false;             ///< K in a basis of its own: see BlockFormats
  /// On top of the formats above, in the order in which they were given: where two speak of the same, the later counts,
  /// however narrow the other is.
  std::vector<FormatOverride> overrides;
  RotationSettings rotate;
  PrefixSettings prefix;
  SearchSettings search;
  FinetuneSettings finetune;
  CalibrationSettings calibration;
  std::uint64_t seed = 0;

  bool operator==(const Recipe&) const = default;
};

/// One settable field of a Recipe.
struct RecipeField {
  std::string key;     ///< "weight.bits"
  std::string values;  ///< "2..8, or 16 for none"
  std::string help;
  std::function<void(Recipe&, std::string_view)>
      set;  ///< throws InputError naming the key, the value and what is allowed
  std::function<Json(const Recipe&)> get;
};
const std::vector<RecipeField>& recipe_fields();
/// Null where there is none of this key.
const RecipeField* find_recipe_field(std::string_view key);

/// Names of the built-in recipes, in the order of the help text.
std::vector<std::string> recipe_names();
/// Throws InputError ("did you mean") for an unknown name.
Recipe named_recipe(std::string_view name);

/// Named sets of settings that say how long quantizing may take.
struct Budget {
  std::string name;
  std::string help;
  std::vector<std::string> settings;  ///< "key=value"
};
/// fast, normal and best.
const std::vector<Budget>& budgets();
/// Throws InputError ("did you mean") for an unknown name.
const Budget& named_budget(std::string_view name);

/// Applies "key=value"; a key with a scope (model/format_override.h) is added to the overrides. Throws InputError for
/// an unknown key ("did you mean") or a value that is not allowed.
void apply_setting(Recipe& recipe, std::string_view assignment);

/// The paper's number of epochs for this precision: 20 for 4-bit activations, 10 for wider ones, 2 for weights alone.
std::int64_t recommended_epochs(const Recipe& recipe);

/// Throws InputError when fields contradict each other, in any block.
void validate_recipe(const Recipe& recipe);
/// The same, and that the model has the blocks that the overrides name.
void validate_recipe(const Recipe& recipe, const ModelSpec& spec);

/// Whether anything is quantized: an unquantized model has a recipe that quantizes nothing.
bool quantizes(const Recipe& recipe);

/// "W4A4KV4" style: bits of weights, activations and KV cache, and the group size of grouped weights; "W4A4KV4 mixed"
/// where some block or linear layer has another format.
std::string precision_name(const Recipe& recipe);

/// {"name": .., "weight": {"bits": 4, ..}, ..}, with overrides {.., "overrides": ["blocks.0.weight.bits=8", ..]};
/// recipe_from_json accepts exactly what recipe_to_json writes (missing fields keep their defaults, unknown ones are a
/// FormatError that names `where`).
Json recipe_to_json(const Recipe& recipe);
Recipe recipe_from_json(const Json& json, std::string_view where);

}  // namespace pq
