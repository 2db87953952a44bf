#include "io/foreign_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/error.h"
#include "io/config_fields.h"

namespace pq::io {
namespace {

constexpr std::int64_t largest_group = std::int64_t{1} << 24;
constexpr std::string_view unknown_remedy =
    "it may change what the codes mean; remove the key if it does not, or use a checkpoint without it";

bool holds_nothing(const Json& value) {
  return value.is_null() || value == false || ((value.is_object() || value.is_array()) && value.empty());
}

/// Every key of `fields` is in one of the lists; `off` are keys that have to hold nothing.
void check_keys(const Fields& fields, std::span<const std::string_view> read, std::span<const std::string_view> off,
                std::span<const std::string_view> bookkeeping) {
  const auto in = [](std::span<const std::string_view> list, std::string_view key) {
    return std::find(list.begin(), list.end(), key) != list.end();
  };
  for (const auto& [key, value] : fields.json().items()) {
    if (in(read, key) || in(bookkeeping, key)) continue;
    if (in(off, key)) {
      if (!holds_nothing(value)) fields.refuse(key, value);
      continue;
    }
    if (holds_nothing(value)) continue;
    throw UnsupportedError(fields.where(), fmt::format("unknown field '{}' = {}", key, Fields::brief(value)),
                           unknown_remedy);
  }
}

std::string string_or(const Fields& fields, std::string_view key, std::string_view absent) {
  return fields.find(key) == nullptr ? std::string(absent) : fields.string(key);
}

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

/// Bits that are in `allowed`.
int bits_of(const Fields& fields, std::string_view key, std::span<const int> allowed) {
  const auto bits = static_cast<int>(fields.integer(key, 1, 64));
  if (std::find(allowed.begin(), allowed.end(), bits) == allowed.end()) {
    throw UnsupportedError(fields.where(), fmt::format("field '{}' = {} is not read", key, bits),
                           fmt::format("{} are", fmt::join(allowed, ", ")));
  }
  return bits;
}

std::vector<std::string> strings(const Fields& fields, std::string_view key) {
  std::vector<std::string> texts;
  const Json* list = fields.find(key);
  if (list == nullptr) return texts;
  if (!list->is_array()) fields.lie(key, "is not a list");
  for (const Json& text : *list) {
    if (!text.is_string()) fields.lie(key, fmt::format("holds {}, not a string", Fields::brief(text)));
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

/// Groups of a layout that has them all of one size, or none (-1).
void set_group(QuantizerFormat& weight, std::int64_t group) {
  weight.granularity = group > 0 ? Granularity::group : Granularity::channel;
  weight.group = std::max<std::int64_t>(group, 0);
}

std::int64_t group_size(const Fields& fields, std::string_view key, std::int64_t absent) {
  const std::int64_t group = fields.integer(key, -1, largest_group, absent);
  if (group == 0) fields.lie(key, "is 0");
  return group;
}

QuantizerFormat weight_format(int bits, bool symmetric) {
  return {bits, symmetric, ScaleMode::static_scale, Granularity::channel, 0};
}

// compressed-tensors: https://github.com/vllm-project/compressed-tensors, quantization/quant_args.py and
// quant_config.py.

/// The arguments of one quantizer, with the strategy that is left out made plain.
struct QuantArguments {
  int bits;
  bool symmetric;
  bool dynamic;
  std::string strategy;
  std::int64_t group;
  bool by_group_order;
};

QuantArguments read_arguments(const Json& json, const std::string& where) {
  const Fields fields(json, where);
  constexpr std::array<std::string_view, 7> read{"num_bits", "type",       "symmetric", "strategy",
                                                 "dynamic",  "group_size", "actorder"};
  constexpr std::array<std::string_view, 1> off{"block_structure"};
  constexpr std::array<std::string_view, 4> bookkeeping{"observer", "observer_kwargs", "scale_dtype", "zp_dtype"};
  check_keys(fields, read, off, bookkeeping);
  if (string_or(fields, "type", "int") != "int") fields.refuse("type", json["type"]);
  constexpr std::array bits{2, 3, 4, 5, 6, 7, 8};
  QuantArguments arguments{bits_of(fields, "num_bits", bits), fields.boolean("symmetric", true), false, {}, -1, false};
  if (const Json* dynamic = fields.find("dynamic"); dynamic != nullptr && !dynamic->is_boolean())
    fields.refuse("dynamic", *dynamic);
  arguments.dynamic = fields.boolean("dynamic", false);
  arguments.group = group_size(fields, "group_size", -1);
  const std::string implied = !fields.contains("group_size") || fields.find("group_size") == nullptr ? "tensor"
                              : arguments.group > 0                                                  ? "group"
                                                                                                     : "channel";
  arguments.strategy = lower_case(string_or(fields, "strategy", implied));
  if (arguments.strategy == "group" && arguments.group < 1) fields.lie("group_size", "is missing for strategy 'group'");
  const std::string order = lower_case(string_or(fields, "actorder", "none"));
  constexpr std::array<std::string_view, 4> orders{"none", "weight", "static", "group"};
  if (std::find(orders.begin(), orders.end(), order) == orders.end()) fields.refuse("actorder", json["actorder"]);
  arguments.by_group_order = order == "group";
  return arguments;
}

void set_weights(ForeignScheme& scheme, const Json& json, const std::string& where) {
  const QuantArguments arguments = read_arguments(json, where);
  scheme.weight = weight_format(arguments.bits, arguments.symmetric);
  scheme.one_scale = arguments.strategy == "tensor";
  scheme.reordered = arguments.by_group_order;
  const bool known = scheme.one_scale || arguments.strategy == "channel" || arguments.strategy == "group";
  if (!known || arguments.dynamic) {
    throw UnsupportedError(
        where, fmt::format("{} weights of strategy '{}'", arguments.dynamic ? "dynamic" : "static", arguments.strategy),
        "static ones by tensor, channel and group are read");
  }
  if (arguments.strategy == "group") set_group(scheme.weight, arguments.group);
}

void set_activations(ForeignScheme& scheme, const Json& json, const std::string& where) {
  const QuantArguments arguments = read_arguments(json, where);
  const bool by_tensor = arguments.strategy == "tensor" && !arguments.dynamic;
  const bool by_token = arguments.strategy == "token" && arguments.dynamic;
  const bool by_group = arguments.strategy == "group" && arguments.dynamic && arguments.symmetric;
  if (!by_tensor && !by_token && !by_group) {
    throw UnsupportedError(
        where,
        fmt::format("{} {} activations of strategy '{}'", arguments.dynamic ? "dynamic" : "static",
                    arguments.symmetric ? "symmetric" : "asymmetric", arguments.strategy),
        "static ones by tensor, dynamic ones by token, and dynamic symmetric ones by group are read");
  }
  scheme.activation = {arguments.bits, arguments.symmetric,
                       arguments.dynamic ? ScaleMode::dynamic_scale : ScaleMode::static_scale,
                       by_tensor  ? Granularity::tensor
                       : by_token ? Granularity::token
                                  : Granularity::group,
                       by_group ? arguments.group : 0};
}

struct FormatName {
  std::string_view name;
  ForeignLayout layout;
};
constexpr std::array compressed_formats{FormatName{"pack-quantized", ForeignLayout::pack_quantized},
                                        FormatName{"int-quantized", ForeignLayout::int_quantized},
                                        FormatName{"naive-quantized", ForeignLayout::int_quantized}};

ForeignConfig::Group compressed_group(const Json& json, const std::string& where, const std::string& global_format) {
  const Fields fields(json, where);
  constexpr std::array<std::string_view, 4> read{"targets", "weights", "input_activations", "format"};
  constexpr std::array<std::string_view, 1> off{"output_activations"};
  check_keys(fields, read, off, {});
  ForeignConfig::Group group;
  const std::string format = string_or(fields, "format", global_format);
  const auto* row = std::find_if(compressed_formats.begin(), compressed_formats.end(),
                                 [&](const FormatName& known) { return known.name == format; });
  if (row == compressed_formats.end()) {
    throw UnsupportedError(where, fmt::format("format '{}' is not read", format),
                           "pack-quantized and int-quantized are: integers of 2 to 8 bits");
  }
  group.scheme.layout = row->layout;
  for (const std::string& target : strings(fields, "targets")) {
    group.targets.push_back(ForeignTarget::of(target, where + ".targets"));
  }
  if (group.targets.empty()) fields.lie("targets", "names no layers");
  if (fields.find("weights") == nullptr) {
    throw UnsupportedError(where, "quantizes activations of weights that it leaves as they are",
                           "use a checkpoint with quantized weights");
  }
  set_weights(group.scheme, *fields.find("weights"), where + ".weights");
  if (const Json* inputs = fields.find("input_activations")) {
    set_activations(group.scheme, *inputs, where + ".input_activations");
  }
  return group;
}

ForeignConfig parse_compressed(const Fields& fields) {
  constexpr std::array<std::string_view, 7> read{"quant_method",  "format",          "quantization_status", "ignore",
                                                 "config_groups", "sparsity_config", "transform_config"};
  constexpr std::array<std::string_view, 1> off{"kv_cache_scheme"};
  constexpr std::array<std::string_view, 5> bookkeeping{"version", "global_compression_ratio", "run_compressed",
                                                        "dequantize", "prefixquant"};
  check_keys(fields, read, off, bookkeeping);
  ForeignConfig config;
  config.method = "compressed-tensors";
  const std::string status = string_or(fields, "quantization_status", "compressed");
  if (status != "compressed") fields.refuse("quantization_status", fields.json()["quantization_status"]);
  const Json* sparsity = fields.find("sparsity_config");
  const bool dense = sparsity == nullptr || holds_nothing(*sparsity) ||
                     (sparsity->is_object() && sparsity->contains("format") && (*sparsity)["format"] == "dense");
  if (!dense) fields.refuse("sparsity_config", *sparsity);
  const Json* transform = fields.find("transform_config");
  const bool plain = transform == nullptr || holds_nothing(*transform) ||
                     (transform->is_object() && transform->size() == 1 && transform->contains("config_groups") &&
                      holds_nothing((*transform)["config_groups"]));
  if (!plain) fields.refuse("transform_config", *transform);
  const std::string global_format = string_or(fields, "format", "none");
  const Json* groups = fields.find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) fields.lie("config_groups", "holds no groups");
  for (const auto& [name, group] : groups->items()) {
    config.groups.push_back(
        compressed_group(group, fmt::format("{}: config_groups.{}", fields.where(), name), global_format));
  }
  for (const std::string& ignored : strings(fields, "ignore")) {
    config.ignore.push_back(ForeignTarget::of(ignored, fmt::format("{}: ignore", fields.where())));
  }
  config.format = global_format;
  return config;
}

// AutoGPTQ (quantization/config.py) and GPTQModel (quantization/config.py).
ForeignConfig parse_gptq(const Fields& fields) {
  constexpr std::array<std::string_view, 8> read{"quant_method", "bits",   "group_size",        "sym",
                                                 "desc_act",     "format", "checkpoint_format", "pack_dtype"};
  constexpr std::array<std::string_view, 5> off{"lm_head", "dynamic", "is_marlin_format", "rotation", "adapter"};
  constexpr std::array<std::string_view, 34> bookkeeping{"damp_percent",
                                                         "damp_auto_increment",
                                                         "static_groups",
                                                         "true_sequential",
                                                         "model_name_or_path",
                                                         "model_file_base_name",
                                                         "dataset",
                                                         "tokenizer",
                                                         "model_seqlen",
                                                         "block_name_to_quantize",
                                                         "module_name_preceding_first_block",
                                                         "modules_in_block_to_quantize",
                                                         "batch_size",
                                                         "pad_token_id",
                                                         "use_cuda_fp16",
                                                         "use_exllama",
                                                         "disable_exllama",
                                                         "exllama_config",
                                                         "max_input_length",
                                                         "cache_block_outputs",
                                                         "backend",
                                                         "act_group_aware",
                                                         "mse",
                                                         "method",
                                                         "meta",
                                                         "version",
                                                         "hyb_act",
                                                         "hessian",
                                                         "iters",
                                                         "nsamples",
                                                         "seqlen",
                                                         "lr",
                                                         "autoround_version",
                                                         "fail_safe"};
  check_keys(fields, read, off, bookkeeping);
  ForeignConfig config;
  config.method = "gptq";
  constexpr std::array bits{2, 3, 4, 8};
  const std::string format = string_or(fields, "checkpoint_format", string_or(fields, "format", "gptq"));
  if (format != "gptq" && format != "gptq_v2") {
    throw UnsupportedError(fields.where(), fmt::format("field 'checkpoint_format' = \"{}\" is not read", format),
                           "gptq and gptq_v2 are");
  }
  if (string_or(fields, "pack_dtype", "int32") != "int32") fields.refuse("pack_dtype", fields.json()["pack_dtype"]);
  const bool symmetric = fields.boolean("sym", true);
  ForeignScheme scheme{.layout = ForeignLayout::gptq,
                       .weight = weight_format(bits_of(fields, "bits", bits), symmetric),
                       .activation = {},
                       .one_scale = false,
                       .zero_offset = format == "gptq" ? 1 : 0,
                       .reordered = true};
  set_group(scheme.weight, group_size(fields, "group_size", -1));
  fields.boolean("desc_act", false);
  config.format = format;
  config.groups.push_back({{ForeignTarget::of("Linear", fields.where())}, scheme});
  return config;
}

// AutoAWQ (models/_config.py), and quant_config.json of its first versions.
ForeignConfig parse_awq(const Fields& fields) {
  constexpr std::array<std::string_view, 9> read{"quant_method", "bits",       "w_bit",   "group_size",
                                                 "q_group_size", "zero_point", "version", "modules_to_not_convert",
                                                 "backend"};
  constexpr std::array<std::string_view, 1> off{"lm_head"};
  constexpr std::array<std::string_view, 5> bookkeeping{"do_fuse", "modules_to_fuse", "fuse_max_seq_len",
                                                        "exllama_config", "pack_dtype"};
  check_keys(fields, read, off, bookkeeping);
  ForeignConfig config;
  config.method = "awq";
  constexpr std::array bits{4};
  const std::string version = lower_case(string_or(fields, "version", "gemm"));
  if (version != "gemm") {
    throw UnsupportedError(fields.where(), fmt::format("field 'version' = \"{}\" is another layout than gemm", version),
                           "use a checkpoint of version gemm");
  }
  if (const std::string backend = string_or(fields, "backend", "autoawq"); backend == "llm-awq")
    fields.refuse("backend", fields.json()["backend"]);
  ForeignScheme scheme{.layout = ForeignLayout::awq_gemm,
                       .weight = weight_format(bits_of(fields, fields.contains("bits") ? "bits" : "w_bit", bits),
                                               !fields.boolean("zero_point", true)),
                       .activation = {},
                       .one_scale = false,
                       .zero_offset = 0,
                       .reordered = false};
  set_group(scheme.weight, group_size(fields, fields.contains("group_size") ? "group_size" : "q_group_size", 128));
  for (const std::string& name : strings(fields, "modules_to_not_convert")) {
    config.ignore.push_back(ForeignTarget::part(name));
  }
  config.format = version;
  config.groups.push_back({{ForeignTarget::of("Linear", fields.where())}, scheme});
  return config;
}

struct Method {
  std::string_view name;
  ForeignConfig (*parse)(const Fields& fields);
};
constexpr std::array methods{Method{"compressed-tensors", parse_compressed}, Method{"gptq", parse_gptq},
                             Method{"awq", parse_awq}};

/// Where the first versions of two programs kept their config, and a key that says it is one.
struct OldFile {
  std::string_view name;
  std::string_view key;
  std::string_view method;
};
constexpr std::array old_files{OldFile{"quantize_config.json", "bits", "gptq"},
                               OldFile{"quant_config.json", "w_bit", "awq"}};

}  // namespace

ForeignTarget ForeignTarget::of(std::string_view text, std::string_view where) {
  ForeignTarget target;
  target.text_ = text;
  constexpr std::string_view mark = "re:";
  if (!text.starts_with(mark)) return target;
  target.kind_ = Kind::regex;
  target.regex_.emplace(text.substr(mark.size()), where);
  return target;
}

ForeignTarget ForeignTarget::part(std::string_view text) {
  ForeignTarget target;
  target.kind_ = Kind::part;
  target.text_ = text;
  return target;
}

bool ForeignTarget::matches_name(std::string_view module) const {
  if (kind_ == Kind::name) return text_ == module;
  if (kind_ == Kind::part) return module.find(text_) != std::string_view::npos;
  // As Python's re.match: from the beginning on, not to the end. The leftmost match begins there, if any does.
  std::vector<Slice> slices;
  regex_->find_all(module, slices);
  return slices.front().is_match && slices.front().begin == 0;
}

const ForeignScheme* ForeignConfig::scheme_of(std::string_view module) const {
  constexpr std::string_view module_class = "Linear";
  const auto names = [&](const ForeignTarget& target) { return target.matches_name(module); };
  const auto classes = [&](const ForeignTarget& target) { return target.is_class(module_class); };
  if (std::any_of(ignore.begin(), ignore.end(), names) || std::any_of(ignore.begin(), ignore.end(), classes)) {
    return nullptr;
  }
  for (const Group& group : groups) {
    if (std::any_of(group.targets.begin(), group.targets.end(), names)) return &group.scheme;
  }
  for (const Group& group : groups) {
    if (std::any_of(group.targets.begin(), group.targets.end(), classes)) return &group.scheme;
  }
  return nullptr;
}

Json foreign_config_json(const TextFiles& texts, std::string* place) {
  constexpr std::string_view file = "config.json";
  if (!texts.has(file)) return {};
  const Json config = texts.json(file);
  if (!config.is_object()) return {};
  if (config.contains("quantization_config") && !holds_nothing(config["quantization_config"])) {
    const Json& block = config["quantization_config"];
    if (block.is_object() && block.contains("quant_method") && block["quant_method"] == "prefixquant") return {};
    if (place != nullptr) *place = texts.place(file) + ": quantization_config";
    return block;
  }
  for (const OldFile& old : old_files) {
    if (!texts.has(old.name)) continue;
    Json block = texts.json(old.name);
    if (!block.is_object() || !block.contains(old.key)) continue;
    if (!block.contains("quant_method")) block["quant_method"] = old.method;
    if (place != nullptr) *place = texts.place(old.name);
    return block;
  }
  return {};
}

ForeignConfig parse_foreign_config(const Json& json, std::string_view where) {
  const Fields fields(json, where);
  const std::string method = string_or(fields, "quant_method", "an unnamed method");
  const auto* row =
      std::find_if(methods.begin(), methods.end(), [&](const Method& known) { return known.name == method; });
  if (row == methods.end()) {
    throw UnsupportedError(where, fmt::format("the model is already quantized, by {}", method),
                           "compressed-tensors, gptq and awq are read; else use the original, unquantized checkpoint");
  }
  ForeignConfig config = row->parse(fields);
  config.json = json;
  return config;
}

}  // namespace pq::io
