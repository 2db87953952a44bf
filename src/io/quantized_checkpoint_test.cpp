#include "io/quantized_checkpoint.h"

#include <gmock/gmock.h>

#include <limits>
#include <map>
#include <stdexcept>
#include <string>

#include "io/block_tensors.h"
#include "io/quantized_checkpoint_for_test.h"
#include "numerics/transform_for_test.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using testing::expect_equal;
using ::testing::HasSubstr;
using testing::message_of;
using testing::write_bytes;

std::vector<std::uint16_t> halves(const TensorView& view) {
  std::vector<std::uint16_t> values(view.bytes.size() / 2);
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

TEST_F(Quantized, RoundTripsEveryKindOfRecipe) {
  std::vector<Recipe> recipes;
  for (const std::string& name : recipe_names()) recipes.push_back(recipe_with(name));
  recipes.push_back(
      recipe_with("w4a4kv4-static", {"weight.symmetric=false", "activation.symmetric=false", "kv.symmetric=false"}));
  recipes.push_back(recipe_with("w4a4kv4-dynamic", {"activation.symmetric=false", "kv.bits=16", "weight.bits=16"}));
  recipes.push_back(recipe_with("w3a16g128", {"weight.group=6"}));  // 16 = 2 * 6 + 4 and 20 = 3 * 6 + 2: a remainder
  recipes.push_back(recipe_with("w2a16g128", {"weight.group=6", "weight.symmetric=true", "kv.bits=5"}));
  recipes.push_back(recipe_with("w4a4kv4-static", {"blocks.1.weight.bits=8", "linear.down_proj.weight.bits=16",
                                                   "blocks.0.kv.bits=16", "linear.o_proj.activation.symmetric=false"}));
  for (const Recipe& recipe : recipes) {
    for (const std::int64_t prefix_tokens : {0, 3}) {
      for (const std::uint64_t shard_bytes : {default_shard_bytes, std::uint64_t{2000}}) {
        SCOPED_TRACE(fmt::format("{} {} {}", recipe_to_json(recipe).dump(), prefix_tokens, shard_bytes));
        const Contents expected = write(recipe, prefix_tokens, shard_bytes, true);
        EXPECT_EQ(fs::exists(out_ / "model.safetensors"), shard_bytes == default_shard_bytes);
        const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
        EXPECT_EQ(checkpoint.recipe(), recipe);
        EXPECT_FALSE(checkpoint.spec().tied_embeddings);
        EXPECT_EQ(checkpoint.prefix().token_ids, expected.prefix.token_ids);
        ASSERT_EQ(checkpoint.prefix().blocks.size(), expected.prefix.blocks.size());
        for (std::size_t i = 0; i < expected.prefix.blocks.size(); ++i) {
          EXPECT_EQ(checkpoint.prefix().blocks[i].key, expected.prefix.blocks[i].key);
          EXPECT_EQ(checkpoint.prefix().blocks[i].value, expected.prefix.blocks[i].value);
        }
        for (std::int64_t i = 0; i < checkpoint.spec().block_count; ++i) {
          expect_equal(checkpoint.block(i), expected.blocks[static_cast<std::size_t>(i)]);
        }
        EXPECT_EQ(halves(checkpoint.embedding()), expected.embedding);
        EXPECT_EQ(halves(checkpoint.lm_head()), expected.lm_head);
        EXPECT_EQ(checkpoint.final_norm(), expected.final_norm);
        const auto layout = checkpoint_layout(checkpoint.spec(),
                                              checkpoint_header(checkpoint.spec(), recipe, expected.prefix.token_ids));
        const auto tensors = checkpoint.tensors();
        ASSERT_EQ(tensors.size(), layout.size());
        for (std::size_t i = 0; i < layout.size(); ++i) EXPECT_EQ(tensors[i].name, layout[i].name);
      }
    }
  }
}

TEST_F(Quantized, APrefixNeedNotComeFromTokens) {
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  const Recipe recipe = recipe_with("w4a4kv4-static");
  Contents contents = random_contents(source.spec(), recipe, 3);
  contents.prefix.token_ids.clear();
  CheckpointHeader header = checkpoint_header(source.spec(), recipe);
  header.prefix_length = 3;
  {
    QuantizedCheckpointWriter writer(source, out_, header, false);
    write_all(writer, contents);
    writer.commit();
  }
  const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
  EXPECT_EQ(checkpoint.prefix().length, 3);
  EXPECT_TRUE(checkpoint.prefix().token_ids.empty());
  ASSERT_EQ(checkpoint.prefix().blocks.size(), 2U);
  EXPECT_EQ(checkpoint.prefix().blocks[1].key, contents.prefix.blocks[1].key);
  EXPECT_EQ(checkpoint.prefix().blocks[1].value, contents.prefix.blocks[1].value);
  EXPECT_THROW(checkpoint.tensor("prefix.token_ids"), FormatError);

  edit_config([](Json& config) { config["quantization_config"]["prefix"]["length"] = 2; });
  EXPECT_THAT(open_error<FormatError>(), AllOf(HasSubstr("prefix.layers.0.key"), HasSubstr("expected F16 [2, 2, 4]")));
  header.prefix_token_ids = {1, 2};
  EXPECT_THROW(QuantizedCheckpointWriter(source, out_, header, true), std::logic_error);
}

/// A transform with every kind of step wherever one can be; gate_up_input has none.
SiteTransforms transforms_everywhere(const ModelSpec& spec, std::uint64_t seed) {
  SiteTransforms transforms;
  for (const Site site : quantized_sites) {
    const auto size = transform_size(spec, site);
    if (size && site != Site::gate_up_input) transforms[site] = every_step(*size, seed);
  }
  return transforms;
}

TEST_F(Quantized, SiteTransformsComeBackWithTheirValues) {
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  for (const char* name : {"w4a4kv4-static", "w4a8kv4-dynamic", "w4a16g128"}) {
    const Recipe recipe = recipe_with(name);
    Contents contents = random_contents(source.spec(), recipe, 1);
    for (std::size_t i = 0; i < contents.blocks.size(); ++i)
      contents.blocks[i].transforms = transforms_everywhere(source.spec(), 10 + i);
    CheckpointHeader header = checkpoint_header(source.spec(), recipe, contents.prefix.token_ids);
    header.transforms = contents.blocks[0].transforms;
    {
      QuantizedCheckpointWriter writer(source, out_, header, true);
      write_all(writer, contents);
      writer.commit();
    }
    const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
    EXPECT_EQ(checkpoint.site_transforms(), without_values(header.transforms));
    for (std::int64_t i = 0; i < 2; ++i) {
      expect_equal(checkpoint.block(i), contents.blocks[static_cast<std::size_t>(i)]);
      EXPECT_EQ(checkpoint.block_without_weights(i).transforms,
                contents.blocks[static_cast<std::size_t>(i)].transforms);
    }
    EXPECT_EQ(shape_text(checkpoint.tensor("model.layers.1.mlp.down_input.transform.6.right").shape), "[5, 5]");
    EXPECT_EQ(checkpoint.tensor("model.layers.0.self_attn.k_cache.transform.0.permutation").dtype, DType::i32);

    QuantizedCheckpointWriter writer(source, out_, header, true);
    writer.append_rows(tensor_names::embedding, contents.embedding);
    contents.blocks[0].transforms[Site::o_input].steps.pop_back();
    EXPECT_THROW(writer.write_block(0, contents.blocks[0]), std::logic_error);
  }
}

TEST_F(Quantized, RefusesTransformsThatAreNone) {
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  const Recipe recipe = recipe_with("w4a4kv4-static");
  const auto error = [&](Site site, const TransformStep& step) {
    Contents contents = random_contents(source.spec(), recipe, 0);
    for (QuantizedBlock& block : contents.blocks) block.transforms[site].steps = {step};
    CheckpointHeader header = checkpoint_header(source.spec(), recipe);
    header.transforms = contents.blocks[0].transforms;
    QuantizedCheckpointWriter writer(source, out_, header, true);
    write_all(writer, contents);
    writer.commit();
    const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
    return message_of<FormatError>([&] { checkpoint.block(1); });
  };
  EXPECT_THAT(
      error(Site::gate_up_input, GatherStep{std::vector<std::int32_t>(16, 3)}),
      AllOf(HasSubstr("model.safetensors: model.layers.1.mlp.gate_up_input"), HasSubstr("place 1 takes from 3")));
  EXPECT_THAT(error(Site::down_input, MultiplyStep{std::vector<float>(20, 0.0F)}), HasSubstr("factor 0 is 0"));
  std::vector<float> matrix(16, 1.0F);
  EXPECT_THAT(error(Site::k_cache, BlockDiagonalStep{4, 1, matrix}), HasSubstr("has no inverse"));
  matrix[5] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(error(Site::o_input, BlockDiagonalStep{4, 1, matrix}),
              AllOf(HasSubstr("self_attn.o_input.transform.0.matrices"), HasSubstr("element 5 is not finite")));
  CheckpointHeader header = checkpoint_header(source.spec(), recipe);
  header.transforms[Site::v_cache].steps = {HadamardStep{4}};
  EXPECT_THAT(message_of<InputError>([&] { QuantizedCheckpointWriter(source, out_, header, true); }),
              HasSubstr("self_attn.v_cache: there can be no transform"));
}

// tests/goldens/io/checkpoint_v1 was written by a program that knew no site transforms.
TEST(CheckpointVersions, TheFirstVersionIsRead) {
  const QuantizedCheckpoint checkpoint =
      QuantizedCheckpoint::open(std::string(PQ_SOURCE_DIR) + "/tests/goldens/io/checkpoint_v1");
  EXPECT_EQ(checkpoint.config()["quantization_config"]["format_version"], 1);
  EXPECT_EQ(checkpoint.site_transforms(), online_rotations(checkpoint.spec(), RotationSettings{}));
  EXPECT_EQ(checkpoint.block(1).transforms[Site::down_input].steps.front(), TransformStep(HadamardStep{88}));
  EXPECT_EQ(checkpoint.prefix().length, 2);
  EXPECT_EQ(checkpoint.prefix().token_ids, (std::vector<std::int32_t>{7, 1}));
}

TEST(CheckpointVersions, TheSecondVersionIsRead) {
  const QuantizedCheckpoint checkpoint =
      QuantizedCheckpoint::open(std::string(PQ_SOURCE_DIR) + "/tests/goldens/io/checkpoint_v2");
  EXPECT_EQ(checkpoint.config()["quantization_config"]["format_version"], 2);
  EXPECT_EQ(checkpoint.site_transforms(), online_rotations(checkpoint.spec(), RotationSettings{}));
  EXPECT_EQ(checkpoint.prefix().length, 2);
}

TEST_F(Quantized, LayoutHasTheDocumentedShapes) {
  ModelSpec spec = HfCheckpoint::open(source_.string()).spec();
  const auto layout = checkpoint_layout(
      spec, checkpoint_header(spec,
                              recipe_with("w3a16g128", {"weight.group=6", "kv.bits=4", "kv.mode=static",
                                                        "kv.granularity=head", "kv.symmetric=false"}),
                              {1, 2, 3}));
  const auto find = [&](std::string_view name) {
    for (const auto& tensor : layout) {
      if (tensor.name == name) return fmt::format("{} {}", dtype_name(tensor.dtype), shape_text(tensor.shape));
    }
    return std::string("none");
  };
  EXPECT_EQ(layout.front().name, "model.embed_tokens.weight");
  EXPECT_EQ(layout.back().name, "prefix.layers.1.value");
  EXPECT_EQ(find("prefix.token_ids"), "I32 [3]");
  EXPECT_EQ(find("prefix.layers.1.key"), "F16 [2, 3, 4]");
  EXPECT_EQ(find("model.layers.1.mlp.down_proj.qweight"), "U8 [16, 8]");  // 20 * 3 bits = 7.5 bytes
  EXPECT_EQ(find("model.layers.1.mlp.down_proj.scales"), "F32 [16, 4]");
  EXPECT_EQ(find("model.layers.1.mlp.down_proj.zero_points"), "I16 [16, 4]");
  EXPECT_EQ(find("model.layers.0.self_attn.k_proj.qweight"), "U8 [8, 6]");
  EXPECT_EQ(find("model.layers.0.self_attn.k_proj.bias"), "F32 [8]");
  EXPECT_EQ(find("model.layers.0.self_attn.k_cache.scale"), "F32 [2]");
  EXPECT_EQ(find("model.layers.0.self_attn.v_cache.zero_point"), "I16 [2]");
  EXPECT_EQ(find("model.layers.0.self_attn.qkv_input.scale"), "none");
  EXPECT_EQ(find("model.layers.0.input_layernorm.weight"), "F32 [16]");
  EXPECT_EQ(find("model.layers.1.mlp.down_proj.group_scales"), "none");
}

TEST_F(Quantized, BlocksAndLinearLayersHaveTheShapesOfTheirFormats) {
  const ModelSpec spec = HfCheckpoint::open(source_.string()).spec();
  const Recipe recipe = recipe_with("w4a4kv4-static", {"blocks.1.weight.bits=8", "linear.down_proj.weight.bits=16",
                                                       "blocks.0.kv.bits=16", "blocks.1.activation.symmetric=false"});
  std::map<std::string, std::string> found;
  std::uint64_t weight_bytes = 0;
  for (const auto& tensor : checkpoint_layout(spec, checkpoint_header(spec, recipe))) {
    found[tensor.name] = fmt::format("{} {}", dtype_name(tensor.dtype), shape_text(tensor.shape));
    const bool of_weight = tensor.name.find("_proj.") != std::string::npos && !tensor.name.ends_with(".bias");
    if (of_weight) weight_bytes += tensor.byte_count();
  }
  EXPECT_EQ(found["model.layers.0.mlp.up_proj.qweight"], "U8 [20, 8]");
  EXPECT_EQ(found["model.layers.1.mlp.up_proj.qweight"], "U8 [20, 16]");
  for (const char* block : {"0", "1"}) {
    const std::string down = fmt::format("model.layers.{}.mlp.down_proj", block);
    EXPECT_EQ(found[down + ".weight"], "F16 [16, 20]");
    EXPECT_FALSE(found.contains(down + ".qweight") || found.contains(down + ".scales"));
  }
  EXPECT_FALSE(found.contains("model.layers.0.self_attn.k_cache.scale"));
  EXPECT_FALSE(found.contains("model.layers.0.self_attn.k_cache.mean"));
  EXPECT_EQ(found["model.layers.1.self_attn.k_cache.scale"], "F32 [2]");
  EXPECT_FALSE(found.contains("model.layers.0.mlp.down_input.zero_point"));
  EXPECT_EQ(found["model.layers.1.mlp.down_input.zero_point"], "I16 [1]");
  EXPECT_DOUBLE_EQ(bits_per_weight(spec, recipe),
                   8.0 * static_cast<double>(weight_bytes) / static_cast<double>(2 * block_parameters(spec)));
}

TEST_F(Quantized, TwoLevelScalesHaveTheDocumentedShapes) {
  ModelSpec spec = HfCheckpoint::open(source_.string()).spec();
  spec.intermediate_size = 80;
  std::string found;
  for (const auto& tensor : checkpoint_layout(spec, checkpoint_header(spec, recipe_with("w4g32a8kv4-static")))) {
    if (!tensor.name.starts_with("model.layers.1.mlp.down_proj.")) continue;
    found += fmt::format("{} {} {}; ", tensor.name.substr(29), dtype_name(tensor.dtype), shape_text(tensor.shape));
  }
  EXPECT_EQ(found, "qweight U8 [16, 40]; scales F32 [16, 1]; group_scales U8 [16, 3]; zero_points I16 [16, 3]; ");
}

TEST_F(Quantized, NamesTheMisfitInTheConfig) {
  write(recipe_with("w4a4kv4-static"), 2);
  const Json good = read_json_file(out_ / "config.json");
  const auto error = [&]<typename E>(std::type_identity<E>, const std::function<void(Json&)>& edit) {
    Json config = good;
    edit(config);
    write_bytes(out_ / "config.json", config.dump());
    return open_error<E>();
  };
  const std::type_identity<FormatError> format;
  const auto block = [](Json& config) -> Json& { return config["quantization_config"]; };
  EXPECT_THAT(error(std::type_identity<UnsupportedError>{}, [&](Json& c) { block(c)["format_version"] = 3; }),
              AllOf(HasSubstr("format version 3"), HasSubstr("versions 1 to 2")));
  EXPECT_THAT(error(std::type_identity<UnsupportedError>{}, [&](Json& c) { block(c)["format_version"] = 0; }),
              AllOf(HasSubstr("format version 0"), HasSubstr("versions 1 to 2")));
  EXPECT_THAT(error(format, [&](Json& c) { block(c).erase("site_transforms"); }), HasSubstr("'site_transforms'"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["site_transforms"]["mlp.down_input"][0]["order"] = 16; }),
              AllOf(HasSubstr("config.json: site_transforms"), HasSubstr("order 16 does not divide 20")));
  EXPECT_THAT(error(format,
                    [&](Json& c) {
                      block(c)["site_transforms"]["mlp.gate_up_input"] = {{{"step", "gather"}}};
                    }),
              HasSubstr("'model.layers.0.mlp.gate_up_input.transform.0.permutation' (expected I32 [16])"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["prefix"].erase("length"); }), HasSubstr("'length'"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["prefix"]["length"] = -1; }), HasSubstr("'length'"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["prefix"]["length"] = 3; }),
              HasSubstr("prefix.length is 3, but there are 2 prefix.token_ids"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c).erase("format_version"); }), HasSubstr("format_version"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c).erase("recipe"); }), HasSubstr("'recipe'"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["recipe"]["weight"]["bits"] = 9; }), HasSubstr("weight.bits"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["recipe"]["kv"]["granularity"] = "token"; }),
              HasSubstr("kv.granularity"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["recipe"]["overrides"] = {"blocks.0-2.weight.bits=8"}; }),
              HasSubstr("there is no block 2: the model has 2"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["recipe"]["overrides"] = {"linear.q_proj.activation.bits=8"}; }),
              HasSubstr("q_proj and k_proj read the same numbers"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["recipe"]["overrides"] = {"blocks.1.weight.bits=8"}; }),
              AllOf(HasSubstr("model.layers.1.self_attn.q_proj.qweight"), HasSubstr("expected U8 [16, 16]")));
  EXPECT_THAT(error(format, [&](Json& c) { block(c).erase("provenance"); }), HasSubstr("'provenance'"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["prefix"]["token_ids"] = {1, 11}; }), HasSubstr("prefix token 11"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["prefix"]["token_ids"] = {1, -1}; }), HasSubstr("prefix token -1"));
  EXPECT_THAT(error(format,
                    [&](Json& c) {
                      block(c)["prefix"]["token_ids"] = {1, "x"};
                    }),
              HasSubstr("prefix token \"x\""));
  EXPECT_THAT(error(format,
                    [&](Json& c) {
                      block(c)["prefix"]["token_ids"] = {1, 2, 3};
                    }),
              HasSubstr("prefix.token_ids"));
  EXPECT_THAT(error(format,
                    [&](Json& c) {
                      block(c)["prefix"]["token_ids"] = {10, 10};
                    }),
              HasSubstr("differs from the prefix"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["prefix"]["token_ids"] = Json::array(); }),
              AllOf(HasSubstr("'prefix.token_ids'"), HasSubstr("does not have")));
  EXPECT_THAT(error(format, [&](Json& c) { c["tie_word_embeddings"] = true; }), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(error(format, [&](Json& c) { c["num_hidden_layers"] = 3; }),
              HasSubstr("'model.layers.2.input_layernorm.weight'"));
  EXPECT_THAT(error(format, [&](Json& c) { block(c)["recipe"]["weight"]["bits"] = 3; }),
              AllOf(HasSubstr("qweight"), HasSubstr("U8 [16, 8]"), HasSubstr("expected U8 [16, 6]")));
}

TEST_F(Quantized, RefusesScalesThatAreNone) {
  const std::string scales = "model.layers.1.mlp.up_proj.scales";
  const std::string site = "model.layers.1.self_attn.k_cache.scale";
  for (const float bad :
       {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::string& name : {scales, site}) {
      write(recipe_with("w4a4kv4-static"), 0, default_shard_bytes, true);
      damage(name, 1, bad);
      const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
      EXPECT_NO_THROW(checkpoint.block(0));
      EXPECT_THAT(message_of<FormatError>([&] { checkpoint.block(1); }),
                  AllOf(HasSubstr(name), HasSubstr("element 1 is")));
    }
  }
  write(recipe_with("w4a4kv4-dynamic"), 2, default_shard_bytes, true);
  damage("model.layers.0.mlp.down_input.clip", 0, -0.5F);
  EXPECT_THAT(message_of<FormatError>([&] { QuantizedCheckpoint::open(out_.string()).block(0); }),
              HasSubstr("down_input.clip"));
  damage("model.norm.weight", 3, std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(message_of<FormatError>([&] { QuantizedCheckpoint::open(out_.string()).final_norm(); }),
              HasSubstr("element 3"));
  damage("prefix.layers.1.value", 2, std::uint16_t{0x7e00});
  EXPECT_THAT(open_error<FormatError>(), AllOf(HasSubstr("prefix.layers.1.value"), HasSubstr("not finite")));
}

TEST_F(Quantized, RefusesGroupScalesThatDoNotFit) {
  const std::string scales = "model.layers.1.mlp.up_proj.group_scales";
  const std::string zeros = "model.layers.1.mlp.up_proj.zero_points";
  struct Damage {
    int scale;
    int zero;
    bool fits;
  };
  for (const Damage& bad : {Damage{0, 8, false}, Damage{17, 8, false}, Damage{255, 8, false}, Damage{1, -1, false},
                            Damage{1, 16, false}, Damage{16, 7, false}, Damage{1, 15, true}, Damage{16, 8, true}}) {
    write(recipe_with("w4g32a8kv4-static"), 0, default_shard_bytes, true);
    damage(scales, 1, static_cast<std::uint8_t>(bad.scale));
    damage(zeros, 1, static_cast<std::int16_t>(bad.zero));
    const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
    EXPECT_NO_THROW(checkpoint.block(0));
    if (bad.fits) {
      EXPECT_NO_THROW(checkpoint.block(1)) << bad.scale << " " << bad.zero;
      continue;
    }
    EXPECT_THAT(message_of<FormatError>([&] { checkpoint.block(1); }),
                AllOf(HasSubstr(scales),
                      HasSubstr(fmt::format("element 1 is {} with a zero point of {}", bad.scale, bad.zero))));
    EXPECT_THROW(checkpoint.block_without_weights(1), FormatError);
  }
}

TEST_F(Quantized, RefusesABlockOutOfRange) {
  write(recipe_with("w4a4kv4-static"), 0);
  const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
  EXPECT_THROW(checkpoint.block(2), std::logic_error);
  EXPECT_THROW(checkpoint.block(-1), std::logic_error);
}

}  // namespace
}  // namespace pq::io
