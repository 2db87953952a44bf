#include "io/foreign_config.h"

#include <gmock/gmock.h>

#include "io/test_files.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryDirectory;
using testing::write_bytes;

constexpr std::string_view compressed = R"({"quant_method": "compressed-tensors", "version": "0.9.0",
  "format": "pack-quantized", "quantization_status": "compressed", "global_compression_ratio": null,
  "kv_cache_scheme": null, "ignore": ["lm_head"], "sparsity_config": {}, "transform_config": {},
  "config_groups": {"group_0": {"targets": ["Linear"], "output_activations": null, "input_activations": null,
    "weights": {"num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 128,
                "dynamic": false, "actorder": null, "observer": "minmax", "observer_kwargs": {},
                "block_structure": null}}}})";
constexpr std::string_view gptq = R"({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": false,
  "desc_act": false, "damp_percent": 0.01, "true_sequential": true, "lm_head": false, "dynamic": null})";
constexpr std::string_view awq = R"({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": true,
  "version": "GEMM", "modules_to_not_convert": null})";

/// `config` with the members of `changes` in it, each at the path that its key says.
Json changed(std::string_view config, std::string_view changes) {
  Json json = parse_json(config, "config");
  const Json patch = parse_json(changes, "changes");
  for (const auto& [path, value] : patch.items()) json[Json::json_pointer(path)] = value;
  return json;
}
ForeignConfig parsed(std::string_view config, std::string_view changes = "{}") {
  return parse_foreign_config(changed(config, changes), "config.json");
}
template <typename E>
std::string error_of(std::string_view config, std::string_view changes) {
  return message_of<E>([&] { parsed(config, changes); });
}
ForeignScheme scheme(const ForeignConfig& config, std::string_view module = "model.layers.3.mlp.down_proj") {
  const ForeignScheme* found = config.scheme_of(module);
  if (found != nullptr) return *found;
  ADD_FAILURE() << module << " has no scheme";
  return {};
}
constexpr const char* weights = "/config_groups/group_0/weights";
constexpr const char* inputs = "/config_groups/group_0/input_activations";
std::string at(const char* object, const std::string& key, const std::string& value) {
  return R"({")" + std::string(object) + "/" + key + R"(": )" + value + "}";
}

TEST(ForeignConfig, ReadsCompressedTensors) {
  const ForeignScheme packed = scheme(parsed(compressed));
  EXPECT_EQ(packed.layout, ForeignLayout::pack_quantized);
  EXPECT_EQ(packed.weight, (QuantizerFormat{4, true, ScaleMode::static_scale, Granularity::group, 128}));
  EXPECT_FALSE(packed.activation.enabled());
  EXPECT_EQ(parsed(compressed).scheme_of("lm_head"), nullptr);

  const ForeignScheme int8 = scheme(parsed(compressed, R"({"/format": "int-quantized",
    "/config_groups/group_0/weights": {"num_bits": 8, "strategy": "channel"},
    "/config_groups/group_0/input_activations": {"num_bits": 8, "strategy": "token", "dynamic": true}})"));
  EXPECT_EQ(int8.layout, ForeignLayout::int_quantized);
  EXPECT_EQ(int8.weight, (QuantizerFormat{8, true, ScaleMode::static_scale, Granularity::channel, 0}));
  EXPECT_EQ(int8.activation, (QuantizerFormat{8, true, ScaleMode::dynamic_scale, Granularity::token, 0}));

  const ForeignScheme still = scheme(parsed(compressed, R"({"/config_groups/group_0/input_activations":
    {"num_bits": 8, "symmetric": false, "strategy": "tensor", "dynamic": false}})"));
  EXPECT_EQ(still.activation, (QuantizerFormat{8, false, ScaleMode::static_scale, Granularity::tensor, 0}));
  // A strategy that is left out follows from the group size.
  EXPECT_EQ(scheme(parsed(compressed, at("/config_groups", "group_0/weights", R"({"num_bits": 3, "group_size": 32})")))
                .weight.group,
            32);
  EXPECT_TRUE(scheme(parsed(compressed, at("/config_groups", "group_0/weights", R"({"num_bits": 3})"))).one_scale);
  EXPECT_TRUE(scheme(parsed(compressed, at(weights, "actorder", "\"group\""))).reordered);
  EXPECT_FALSE(scheme(parsed(compressed, at(weights, "actorder", "\"weight\""))).reordered);
}

TEST(ForeignConfig, ReadsGptqAndAwq) {
  const ForeignScheme first = scheme(parsed(gptq));
  EXPECT_EQ(first.layout, ForeignLayout::gptq);
  EXPECT_EQ(first.weight, (QuantizerFormat{4, false, ScaleMode::static_scale, Granularity::group, 128}));
  EXPECT_EQ(first.zero_offset, 1);
  const ForeignScheme second =
      scheme(parsed(gptq, R"({"/checkpoint_format": "gptq_v2", "/group_size": -1, "/bits": 3})"));
  EXPECT_EQ(second.zero_offset, 0);
  EXPECT_EQ(second.weight, (QuantizerFormat{3, false, ScaleMode::static_scale, Granularity::channel, 0}));

  const ForeignScheme third = scheme(parsed(awq));
  EXPECT_EQ(third.layout, ForeignLayout::awq_gemm);
  EXPECT_EQ(third.weight, (QuantizerFormat{4, false, ScaleMode::static_scale, Granularity::group, 64}));
  const ForeignConfig some = parsed(awq, R"({"/modules_to_not_convert": ["mlp"]})");
  EXPECT_EQ(some.scheme_of("model.layers.0.mlp.up_proj"), nullptr);
  EXPECT_NE(some.scheme_of("model.layers.0.self_attn.q_proj"), nullptr);
}

TEST(ForeignConfig, NamesComeBeforeClasses) {
  const ForeignConfig config = parsed(compressed, R"({"/config_groups/b": {"targets": ["re:.*mlp\\.(up|gate)_proj$"],
      "weights": {"num_bits": 8, "strategy": "channel"}},
    "/ignore": ["re:model\\.layers\\.[01]\\.", "model.layers.7.mlp.down_proj"]})");
  EXPECT_EQ(scheme(config, "model.layers.2.mlp.up_proj").weight.bits, 8);
  EXPECT_EQ(scheme(config, "model.layers.2.mlp.down_proj").weight.bits, 4);
  EXPECT_EQ(config.scheme_of("model.layers.1.mlp.up_proj"), nullptr);
  EXPECT_NE(config.scheme_of("model.layers.10.mlp.up_proj"), nullptr);
  EXPECT_EQ(config.scheme_of("model.layers.7.mlp.down_proj"), nullptr);
  // An expression begins at the name's beginning.
  EXPECT_NE(parsed(compressed, R"({"/ignore": ["re:layers"]})").scheme_of("model.layers.1.mlp.up_proj"), nullptr);
}

TEST(ForeignConfig, RefusesByNameWhatHasOtherArithmetic) {
  const auto refused = [](std::string_view config, const std::string& changes) {
    return error_of<UnsupportedError>(config, changes);
  };
  EXPECT_THAT(refused(compressed, R"({"/quant_method": "fbgemm_fp8"})"), HasSubstr("already quantized, by fbgemm_fp8"));
  for (const char* format : {"float-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized", "marlin-24"}) {
    EXPECT_THAT(refused(compressed, R"({"/format": ")" + std::string(format) + "\"}"),
                AllOf(HasSubstr("config_groups.group_0"), HasSubstr(format)));
  }
  EXPECT_THAT(refused(compressed, at(weights, "type", "\"float\"")), HasSubstr("'type' = \"float\""));
  EXPECT_THAT(refused(compressed, at(weights, "num_bits", "16")), HasSubstr("'num_bits' = 16"));
  EXPECT_THAT(refused(compressed, at(weights, "strategy", "\"block\"")), HasSubstr("'block'"));
  EXPECT_THAT(refused(compressed, at(weights, "actorder", "\"magic\"")), HasSubstr("'actorder'"));
  EXPECT_THAT(refused(compressed, at(weights, "block_structure", "[2, 2]")), HasSubstr("'block_structure'"));
  EXPECT_THAT(refused(compressed, at(weights, "rounding", "\"up\"")), HasSubstr("unknown field 'rounding' = \"up\""));
  EXPECT_THAT(refused(compressed, R"({"/surprise": {"a": 1}})"), HasSubstr("unknown field 'surprise'"));
  EXPECT_THAT(refused(compressed, R"({"/kv_cache_scheme": {"num_bits": 8}})"), HasSubstr("'kv_cache_scheme'"));
  EXPECT_THAT(refused(compressed, R"({"/sparsity_config": {"format": "sparse-24-bitmask"}})"),
              HasSubstr("'sparsity_config'"));
  EXPECT_THAT(refused(compressed, R"({"/transform_config": {"config_groups": {"R4": {"type": "hadamard"}}}})"),
              HasSubstr("'transform_config'"));
  EXPECT_THAT(refused(compressed, R"({"/quantization_status": "frozen"})"), HasSubstr("'quantization_status'"));
  EXPECT_THAT(refused(compressed, at("/config_groups/group_0", "output_activations", R"({"num_bits": 8})")),
              HasSubstr("'output_activations'"));
  EXPECT_THAT(refused(compressed, at("/config_groups/group_0", "input_activations",
                                     R"({"num_bits": 8, "strategy": "tensor", "dynamic": true})")),
              HasSubstr("dynamic symmetric activations of strategy 'tensor'"));
  EXPECT_THAT(refused(compressed, at("/config_groups/group_0", "input_activations",
                                     R"({"num_bits": 8, "strategy": "tensor_group", "dynamic": "local"})")),
              HasSubstr("'dynamic' = \"local\""));
  EXPECT_THAT(refused(compressed, R"({"/ignore": ["re:\\p{Zz}\\X"]})"), HasSubstr("ignore"));

  EXPECT_THAT(refused(gptq, R"({"/checkpoint_format": "marlin"})"), HasSubstr("\"marlin\""));
  EXPECT_THAT(refused(gptq, R"({"/lm_head": true})"), HasSubstr("'lm_head' = true"));
  EXPECT_THAT(refused(gptq, R"({"/dynamic": {"-:.*mlp.*": {}}})"), HasSubstr("'dynamic'"));
  EXPECT_THAT(refused(gptq, R"({"/bits": 5})"), HasSubstr("'bits' = 5"));
  EXPECT_THAT(refused(gptq, R"({"/surprise": 1})"), HasSubstr("unknown field 'surprise' = 1"));
  EXPECT_THAT(refused(awq, R"({"/version": "gemv"})"), HasSubstr("\"gemv\""));
  EXPECT_THAT(refused(awq, R"({"/bits": 3})"), HasSubstr("'bits' = 3"));
}

TEST(ForeignConfig, NamesFieldsThatLie) {
  EXPECT_THAT(error_of<FormatError>(compressed, R"({"/config_groups": {}})"), HasSubstr("'config_groups'"));
  EXPECT_THAT(error_of<FormatError>(compressed, R"({"/config_groups": {"a": 3}})"), HasSubstr("config_groups.a"));
  EXPECT_THAT(error_of<FormatError>(compressed, R"({"/config_groups/group_0/targets": []})"), HasSubstr("'targets'"));
  EXPECT_THAT(error_of<FormatError>(compressed, R"({"/ignore": [1]})"), HasSubstr("'ignore'"));
  EXPECT_THAT(error_of<FormatError>(compressed, at(weights, "group_size", "null")), HasSubstr("'group_size'"));
  EXPECT_THAT(error_of<FormatError>(compressed, at(weights, "group_size", "0")), HasSubstr("'group_size'"));
  EXPECT_THAT(error_of<FormatError>(compressed, at(weights, "symmetric", "\"yes\"")), HasSubstr("'symmetric'"));
  EXPECT_THAT(error_of<FormatError>(gptq, R"({"/bits": "4"})"), HasSubstr("'bits'"));
  EXPECT_THAT(error_of<FormatError>(gptq, R"({"/group_size": -2})"), HasSubstr("'group_size'"));
  EXPECT_THAT(error_of<FormatError>(awq, R"({"/modules_to_not_convert": "lm_head"})"),
              HasSubstr("'modules_to_not_convert'"));
  EXPECT_THAT(message_of<FormatError>([] { parse_foreign_config(Json::array(), "config.json"); }),
              HasSubstr("not a JSON object"));
}

TEST(ForeignConfig, FindsTheConfigWhereProgramsKeepIt) {
  const TemporaryDirectory directory;
  const TextFiles texts(directory.path());
  EXPECT_TRUE(foreign_config_json(texts).is_null());
  write_bytes(directory.path() / "config.json", R"({"model_type": "llama"})");
  EXPECT_TRUE(foreign_config_json(texts).is_null());
  write_bytes(directory.path() / "quant_config.json", R"({"w_bit": 4, "q_group_size": 128, "zero_point": true})");
  EXPECT_EQ(foreign_config_json(texts)["quant_method"], "awq");
  write_bytes(directory.path() / "quantize_config.json", R"({"bits": 4, "group_size": 128})");
  std::string place;
  EXPECT_EQ(foreign_config_json(texts, &place)["quant_method"], "gptq");
  EXPECT_THAT(place, HasSubstr("quantize_config.json"));
  write_bytes(directory.path() / "config.json", R"({"quantization_config": {"quant_method": "prefixquant"}})");
  EXPECT_TRUE(foreign_config_json(texts).is_null());
  write_bytes(directory.path() / "config.json", R"({"quantization_config": {"quant_method": "aqlm"}})");
  EXPECT_EQ(foreign_config_json(texts, &place)["quant_method"], "aqlm");
  EXPECT_THAT(place, HasSubstr("config.json: quantization_config"));
}

}  // namespace
}  // namespace pq::io
