#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "io/hf_checkpoint.h"
#include "io/quantized_checkpoint.h"

namespace pq::cli {

/// What a tensor's bytes are spent on.
enum class Part { weights, weight_scales, activation_scales, embeddings, norms_and_biases, prefix, other };
inline constexpr std::array all_parts{Part::weights,    Part::weight_scales,    Part::activation_scales,
                                      Part::embeddings, Part::norms_and_biases, Part::prefix,
                                      Part::other};
/// "weight_scales", for JSON.
std::string_view part_key(Part part);
/// "weight scales and zero points", for people.
std::string_view part_title(Part part);
/// The part that a tensor of this name belongs to, in a quantized checkpoint of this program or another, or a Hugging
/// Face one.
Part part_of(std::string_view tensor_name);

/// Bytes of each part.
struct CheckpointSizes {
  std::array<std::uint64_t, all_parts.size()> bytes{};
  std::uint64_t& operator[](Part part) { return bytes.at(static_cast<std::size_t>(part)); }
  std::uint64_t operator[](Part part) const { return bytes.at(static_cast<std::size_t>(part)); }
  std::uint64_t total() const { return std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0}); }
};
CheckpointSizes sizes_of(const std::vector<io::TensorSummary>& tensors);

/// Bits that one weight of a linear layer takes in the file, its share of scales and zero points included.
double bits_per_weight(const CheckpointSizes& sizes, const ModelSpec& spec);

/// All tensors of a Hugging Face checkpoint in file order; those of an element type that is not read here are left out.
std::vector<io::TensorSummary> tensors_of(const io::HfCheckpoint& checkpoint);
/// "BF16", or "BF16 and F32".
std::string type_names(const std::vector<io::TensorSummary>& tensors);

/// The range of one kind of number over all blocks.
struct Spread {
  std::string name;  ///< "mlp.down_input" or "mlp.down_proj"
  std::string kind;  ///< "scale", "clip of max", "clip of min"
  double min = 0;
  double median = 0;
  double max = 0;
};

struct CheckpointScales {
  std::vector<Spread> sites;    ///< activation and KV quantizers
  std::vector<Spread> weights;  ///< the seven linear layers
};
/// Reads every block, with or without its codes. Throws FormatError for a scale that is none.
CheckpointScales scales_of(const ModelSpec& spec, const Recipe& recipe,
                           const std::function<QuantizedBlock(std::int64_t)>& block);

}  // namespace pq::cli
