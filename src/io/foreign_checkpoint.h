#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/block_source.h"
#include "io/foreign_config.h"
#include "io/foreign_layout.h"
#include "io/hf_checkpoint.h"
#include "model/recipe.h"

namespace pq::io {

/// Whether another program quantized the model of a directory, or of a name that resolve_model found: its quantization
/// config says so. Throws as reading the config does.
bool is_foreign_checkpoint(const std::filesystem::path& path);

/// A checkpoint that another program quantized (docs/foreign-checkpoints.md): compressed-tensors, GPTQ or AWQ, mapped.
/// Opening checks the config and what is not quantized; a block's tensors are checked when it is read.
class ForeignCheckpoint {
 public:
  /// Throws what HfCheckpoint::open and parse_foreign_config throw; UnsupportedError for layers of several formats, a
  /// quantized lm_head, a bias where the architecture has none.
  static ForeignCheckpoint open(const std::string& model, std::int64_t context = 0);

  const ForeignConfig& config() const { return config_; }
  /// All that is not quantized.
  const HfCheckpoint& rest() const { return rest_; }
  const ModelSpec& spec() const { return rest_.spec(); }
  /// What the runtime computes with: formats of weights and activations; no rotations, no prefix, K and V in 16 bits.
  const Recipe& recipe() const { return recipe_; }

  /// Throws FormatError for a tensor that is missing or misshapen, and numbers that are out of range or not finite;
  /// UnsupportedError for what cannot be expressed
  /// (an activation order of its own for each of several layers that read one input).
  BlockSource block(std::int64_t index) const;
  /// The same without codes.
  QuantizedBlock block_without_weights(std::int64_t index) const;

 private:
  ForeignCheckpoint(ForeignConfig config, HfCheckpoint rest, std::string where);
  void choose_recipe();
  void check_modules() const;
  void check_head() const;
  std::optional<TensorView> find(std::string_view name) const;
  ForeignPlace place_of(std::int64_t block, LinearId id) const;
  BlockSource read_block(std::int64_t index, BlockWeights weights) const;
  void set_order(SiteTransforms& transforms, LinearId id, const ForeignPlace& place,
                 std::vector<std::int32_t> columns) const;
  TensorView one_value(const std::string& name) const;
  SiteQuantizer input_quantizer(std::int64_t block, Site site) const;

  std::string where_;  // the quantization config, for errors
  ForeignConfig config_;
  HfCheckpoint rest_;
  ForeignScheme scheme_;  // of all quantized layers
  Recipe recipe_;
};

}  // namespace pq::io
