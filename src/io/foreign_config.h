#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/text_files.h"
#include "model/recipe.h"
#include "text/regex.h"

namespace pq::io {

/// How another program lays out a quantized linear layer; io/foreign_layout.h has a row for each.
enum class ForeignLayout {
  pack_quantized,  ///< compressed-tensors: codes in 32-bit words along the input
  int_quantized,   ///< compressed-tensors: one code a byte
  gptq,            ///< AutoGPTQ, GPTQModel: words along the input, [in, out]
  awq_gemm,        ///< AutoAWQ: words along the output, in an order of their own, [in, out]
};

/// What a quantization config says of some linear layers.
struct ForeignScheme {
  ForeignLayout layout = ForeignLayout::pack_quantized;
  QuantizerFormat weight;      ///< granularity channel or group
  QuantizerFormat activation;  ///< of what the layers read; not enabled: 16 bits
  bool one_scale = false;      ///< all of a weight shares one scale
  int zero_offset = 0;         ///< what is stored is a zero point less this
  bool reordered = false;      ///< columns may belong to groups in any order: the tensor of that says which

  bool operator==(const ForeignScheme&) const = default;
};

/// Layers by name: a whole one, a class of modules, a part, or a regular expression from the name's beginning on.
class ForeignTarget {
 public:
  /// compressed-tensors: "Linear", "model.layers.0.mlp.down_proj" or "re:.*down_proj". Throws what Regex throws.
  static ForeignTarget of(std::string_view text, std::string_view where);
  /// AutoAWQ: any name that holds it.
  static ForeignTarget part(std::string_view text);

  bool matches_name(std::string_view module) const;
  bool is_class(std::string_view name) const { return kind_ == Kind::name && text_ == name; }
  const std::string& text() const { return text_; }

 private:
  enum class Kind { name, part, regex };
  Kind kind_ = Kind::name;
  std::string text_;
  std::optional<Regex> regex_;
};

/// The quantization config of a checkpoint that another program wrote.
struct ForeignConfig {
  struct Group {
    std::vector<ForeignTarget> targets;
    ForeignScheme scheme;
  };
  std::string method;  ///< "compressed-tensors", "gptq" or "awq"
  std::string format;  ///< the layout's name, for people
  std::vector<Group> groups;
  std::vector<ForeignTarget> ignore;
  Json json;  ///< as it stands in the file

  /// The scheme of a linear layer by its name ("model.layers.0.mlp.down_proj"): names and expressions come before
  /// classes; null where it is not quantized.
  const ForeignScheme* scheme_of(std::string_view module) const;
};

/// The quantization config beside a model's weights: `quantization_config` of config.json, or what programs before that
/// wrote into quantize_config.json (AutoGPTQ) or quant_config.json (AutoAWQ). Null where there is none, or one of this
/// program. `place`, where it is given, becomes the file's name.
Json foreign_config_json(const TextFiles& texts, std::string* place = nullptr);

/// Reads one. Throws UnsupportedError naming the field for a method, a format, a key or a value whose arithmetic is not
/// here; FormatError for a field that is missing, of the wrong type, or contradicts another.
ForeignConfig parse_foreign_config(const Json& config, std::string_view where);

}  // namespace pq::io
