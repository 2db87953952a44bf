#include "exchange/ct_export.h"

#include <gmock/gmock.h>

#include <cstring>
#include <functional>

#include "base/half.h"
#include "exchange/prefix_tokenizer.h"
#include "io/foreign_checkpoint.h"
#include "io/test_blocks.h"
#include "io/test_files.h"

namespace pq::exchange {
namespace {

namespace fs = std::filesystem;
using io::testing::read_bytes;
using io::testing::TemporaryDirectory;
using io::testing::write_bytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view tokenizer =
    R"({"model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "c": 4},
  "merges": ["a b"]}, "added_tokens": [{"id": 0, "content": "<s>", "special": true, "single_word": false,
  "lstrip": false, "rstrip": false, "normalized": false}], "normalizer": null, "pre_tokenizer": null, "decoder": null,
  "post_processor": null})";

Recipe recipe_of(const std::string& name, const std::vector<std::string>& settings) {
  Recipe recipe = named_recipe(name);
  for (const std::string& setting : settings) apply_setting(recipe, setting);
  return recipe;
}
const std::vector<std::string> plain{"rotate.r1=none", "rotate.r3=false", "rotate.r4=false", "kv.bits=16"};
std::vector<std::string> with(std::vector<std::string> settings) {
  settings.insert(settings.begin(), plain.begin(), plain.end());
  return settings;
}

Prefix random_prefix(const ModelSpec& spec) {
  Prefix prefix{2, {3, 1}, {}};
  const auto count = static_cast<std::size_t>(spec.kv_head_count * 2 * spec.head_dim);
  prefix.blocks.assign(static_cast<std::size_t>(spec.block_count),
                       {std::vector<std::uint16_t>(count, 0x3c00), std::vector<std::uint16_t>(count, 0x3400)});
  return prefix;
}

/// A checkpoint of random numbers whose scales are binary16 and whose zero points lie among the codes.
class Quantized {
 public:
  using Change = std::function<void(QuantizedBlock&)>;

  explicit Quantized(
      const Recipe& recipe, const Change& change = [](QuantizedBlock&) {}) {
    Json config = io::testing::small_config();
    config["hidden_size"] = 32;
    config["intermediate_size"] = 64;
    config["model_type"] = "qwen2";
    config["architectures"] = {"Qwen2ForCausalLM"};
    const fs::path source = directory_.path() / "source";
    io::testing::write_checkpoint(source, config, io::testing::tensors_for(config));
    write_bytes(source / "tokenizer.json", tokenizer);
    const auto original = io::HfCheckpoint::open(source.string());
    ModelSpec spec = original.spec();
    spec.tied_embeddings = false;
    const Prefix prefix = random_prefix(spec);
    io::QuantizedCheckpointWriter writer(original, path(), io::checkpoint_header(spec, recipe, prefix.token_ids, "ab"),
                                         false);
    Random random(7, "export");
    const auto halves = [&](std::int64_t count) {
      std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
      for (std::uint16_t& value : values) value = float_to_f16(static_cast<float>(random.normal()));
      return values;
    };
    writer.append_rows(tensor_names::embedding, halves(spec.vocab_size * spec.hidden_size));
    for (std::int64_t i = 0; i < spec.block_count; ++i) {
      QuantizedBlock block = io::testing::random_block(random, spec, recipe, i);
      for (QuantizedLinear& linear : block.linears) {
        for (float& scale : linear.scales) scale = f16_to_float(float_to_f16(scale));
        for (std::int16_t& zero : linear.zero_points) zero &= static_cast<std::int16_t>((1 << recipe.weight.bits) - 1);
      }
      for (SiteQuantizer& site : block.sites) site.clip = {1, 1};
      change(block);
      writer.write_block(i, block);
    }
    writer.write_final_norm(std::vector<float>(32, 1.0F));
    writer.append_rows(tensor_names::lm_head, halves(spec.vocab_size * spec.hidden_size));
    writer.write_prefix(prefix);
    writer.commit();
  }
  fs::path path() const { return directory_.path() / "quantized"; }
  fs::path out() const { return directory_.path() / "out"; }
  io::QuantizedCheckpoint checkpoint() const { return io::QuantizedCheckpoint::open(path().string()); }
  CtExport exported(const CtOptions& options = {}) const {
    return export_compressed_tensors(checkpoint(), out(), options);
  }
  template <typename E>
  std::string refusal(const CtOptions& options = {}) const {
    const std::string message = message_of<E>([&] { exported(options); });
    EXPECT_FALSE(fs::exists(out()));
    EXPECT_FALSE(fs::exists(out().string() + ".partial"));
    return message;
  }

 private:
  TemporaryDirectory directory_;
};

const std::vector<std::vector<std::string>> exportable{
    with({"weight.group=32"}),
    with({"weight.group=16", "weight.symmetric=false"}),
    with({"weight.bits=3", "weight.granularity=channel", "weight.symmetric=true"}),
    with({"weight.bits=2", "weight.group=32", "weight.symmetric=false"}),
    with({"weight.bits=8", "weight.group=32", "weight.symmetric=true"}),
    with({"weight.symmetric=true", "weight.granularity=channel", "activation.bits=8"}),
};

TEST(CtExport, AnExportReadBackIsTheModel) {
  for (const auto& settings : exportable) {
    const Quantized quantized(recipe_of("w4a16g128", settings));
    SCOPED_TRACE(precision_name(quantized.checkpoint().recipe()));
    const CtExport made = quantized.exported({.prefix = false});
    EXPECT_EQ(made.largest_scale_change, 0);
    const auto read = io::ForeignCheckpoint::open(quantized.out().string());
    EXPECT_EQ(precision_name(read.recipe()), precision_name(quantized.checkpoint().recipe()));
    for (std::int64_t i = 0; i < read.spec().block_count; ++i) {
      const io::BlockSource block = read.block(i);
      const QuantizedBlock own = quantized.checkpoint().block(i);
      for (const LinearId id : all_linears) {
        const auto codes = std::as_bytes(std::span(own.linears[id].codes));
        EXPECT_TRUE(
            std::equal(codes.begin(), codes.end(), block.weights[id].bytes.begin(), block.weights[id].bytes.end()));
        EXPECT_EQ(block.parameters.linears[id].scales, own.linears[id].scales);
        EXPECT_EQ(block.parameters.linears[id].zero_points, own.linears[id].zero_points);
      }
      EXPECT_EQ(block.parameters.norms[NormId::mlp_input].size(), 32U);
    }
    EXPECT_TRUE(std::equal(read.rest().lm_head().bytes.begin(), read.rest().lm_head().bytes.end(),
                           quantized.checkpoint().lm_head().bytes.begin()));
  }
}

TEST(CtExport, SaysTheSchemeAsOthersRead) {
  const Quantized dynamic(recipe_of("w8a8kv8-dynamic", with({})));
  const CtExport made = dynamic.exported();
  EXPECT_EQ(made.plan.scheme, "W8A8");
  const Json config = read_json_file(dynamic.out() / "config.json");
  const Json& group = config["quantization_config"]["config_groups"]["group_0"];
  EXPECT_EQ(config["quantization_config"]["format"], "int-quantized");
  EXPECT_EQ(group["weights"]["strategy"], "channel");
  EXPECT_EQ(group["input_activations"]["strategy"], "token");
  EXPECT_EQ(group["input_activations"]["dynamic"], true);
  EXPECT_EQ(config["torch_dtype"], "float16");
  EXPECT_EQ(config["tie_word_embeddings"], false);
  EXPECT_EQ(config["prefixquant"]["prefix"]["token_ids"].size(), 2U);

  const Quantized fixed(recipe_of("w8a8kv8-static", with({})));
  fixed.exported();
  const io::SafetensorsFile file(fixed.out() / "model.safetensors");
  EXPECT_EQ(file.tensor("model.layers.1.mlp.down_proj.input_scale").dtype, io::DType::f32);
  EXPECT_EQ(file.tensor("model.layers.1.mlp.down_proj.weight").dtype, io::DType::i8);
}

TEST(CtExport, RecipesMadeForItNeedNoOtherSettings) {
  const std::vector<std::pair<const char*, const char*>> schemes{
      {"w4a16g32-ct", "W4A16"}, {"w8a8-ct", "W8A8"}, {"w8a8-static-ct", "W8A8"}, {"w4a8-ct", "W4A8"}};
  for (const auto& [name, scheme] : schemes) {
    const Recipe recipe = recipe_of(name, {"weight.group=32"});  // the small model has no 128 inputs
    EXPECT_FALSE(recipe.search.activation && recipe.activation.enabled() && !recipe.activation.is_static()) << name;
    EXPECT_EQ(Quantized(recipe).exported().plan.scheme, scheme) << name;
  }
}

TEST(CtExport, ThePrefixStandsInFrontOfEveryText) {
  const Quantized quantized(recipe_of("w4a16g128", with({"weight.group=32", "weight.symmetric=true"})));
  const CtExport made = quantized.exported();
  const std::vector<std::int32_t> ids = quantized.checkpoint().prefix().token_ids;
  EXPECT_EQ(made.prefix_token_ids, ids);
  const Tokenizer tokens = Tokenizer::load(quantized.out());
  EXPECT_THAT(tokens.encode("abc", true), ElementsAre(ids[0], ids[1], 3, 4));
  EXPECT_THAT(tokens.encode("abc", false), ElementsAre(3, 4));
  const CtExport without = quantized.exported({.replace = true, .prefix = false});
  EXPECT_TRUE(without.prefix_token_ids.empty());
  EXPECT_EQ(read_bytes(quantized.out() / "tokenizer.json"), tokenizer);
}

TEST(CtExport, PutsThePrefixBeforeWhatATokenizerAdds) {
  const Tokenizer plain_tokenizer = Tokenizer::parse(tokenizer, "tokenizer.json");
  Json json = parse_json(std::string(tokenizer), "tokenizer.json");
  const Json bos =
      parse_json(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
    {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}})",
                 "template");
  const Json bytes = parse_json(
      R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})", "processor");
  const std::vector<std::int32_t> ids{4, 2};
  const auto encoded = [&](const Json& processor) {
    json["post_processor"] = processor;
    return Tokenizer::parse(with_prefix(json, ids, plain_tokenizer, "t").dump(), "t").encode("ab", true);
  };
  EXPECT_THAT(encoded(bos), ElementsAre(4, 2, 0, 3));
  EXPECT_THAT(encoded(Json{{"type", "Sequence"}, {"processors", {bytes, bos}}}), ElementsAre(4, 2, 0, 3));
  EXPECT_THAT(encoded(bytes), ElementsAre(4, 2, 3));
  EXPECT_THAT(encoded(nullptr), ElementsAre(4, 2, 3));
  EXPECT_THAT(message_of<UnsupportedError>([&] {
                encoded(Json{{"type", "BertProcessing"}});
              }),
              AllOf(HasSubstr("post_processor"), HasSubstr("--no-prefix")));

  EXPECT_EQ(chat_template_with_prefix("{{ x }}", "c<s>", std::vector<std::int32_t>{4, 0}, plain_tokenizer),
            "{{- \"c<s>\" -}}{{ x }}");
  EXPECT_EQ(chat_template_with_prefix("{{ x }}", "cb", ids, plain_tokenizer), std::nullopt);  // "b" could join more
  EXPECT_EQ(chat_template_with_prefix("{{ x }}", "c<s>", std::vector<std::int32_t>{2, 0}, plain_tokenizer),
            std::nullopt);
}

TEST(CtExport, RefusesWhatTheFormatCannotHoldWithACommand) {
  const auto refusal = [](
                           const std::vector<std::string>& settings, const Quantized::Change& change = [](auto&) {}) {
    return Quantized(recipe_of("w4a16g128", with(settings)), change).refusal<UnsupportedError>();
  };
  EXPECT_THAT(refusal({"weight.group=32", "rotate.r4=true"}),
              AllOf(HasSubstr("rotate.r4"), HasSubstr("mlp.down_input"), HasSubstr("--set rotate.r4=false")));
  EXPECT_THAT(refusal({"weight.group=32", "rotate.heads=true"}),
              AllOf(HasSubstr("rotate.heads"), HasSubstr("o_input"), HasSubstr("--set rotate.heads=false")));
  EXPECT_THAT(refusal({"weight.group=24"}), AllOf(HasSubstr("groups of 24"), HasSubstr("--set weight.group=32")));
  EXPECT_THAT(refusal({"weight.bits=16"}), HasSubstr("not quantized"));
  EXPECT_THAT(
      refusal({"weight.group=32", "activation.bits=4", "activation.mode=static", "activation.granularity=tensor"}),
      AllOf(HasSubstr("activation.mode"), HasSubstr("--recipe w4a8-ct")));
  EXPECT_THAT(refusal({"weight.group=32", "activation.bits=8"},
                      [](QuantizedBlock& block) { block.sites[Site::o_input].clip[0] = 0.9F; }),
              AllOf(HasSubstr("self_attn.o_input"), HasSubstr("search.activation=false")));
  EXPECT_THAT(refusal({"weight.group=32", "weight.symmetric=false"},
                      [](QuantizedBlock& block) { block.linears[LinearId::up].zero_points[3] = 16; }),
              AllOf(HasSubstr("mlp.up_proj has a zero point of 16"), HasSubstr("weight.scale_type=f16")));

  const auto odd = [](QuantizedBlock& block) { block.linears[LinearId::up].scales[3] = 0.1F; };
  const Quantized scales(recipe_of("w4a16g128", with({"weight.group=32"})), odd);
  EXPECT_THAT(scales.refusal<UnsupportedError>(), AllOf(HasSubstr("weight.scale_type"), HasSubstr("--round-scales")));
  const double change = scales.exported({.round_scales = true}).largest_scale_change;
  EXPECT_GT(change, 0);
  EXPECT_LT(change, 1.0 / 2048);
}

TEST(CtExport, ReplacesNothingButExports) {
  const Quantized quantized(recipe_of("w4a16g128", with({"weight.group=32"})));
  quantized.exported();
  EXPECT_THAT(message_of<InputError>([&] { quantized.exported(); }), HasSubstr("exists"));
  EXPECT_NO_THROW(quantized.exported({.replace = true, .max_shard_bytes = 8000}));
  EXPECT_TRUE(fs::exists(quantized.out() / "model.safetensors.index.json"));
  EXPECT_THAT(message_of<InputError>(
                  [&] { export_compressed_tensors(quantized.checkpoint(), quantized.path(), {.replace = true}); }),
              HasSubstr("no export of this program"));
}

}  // namespace
}  // namespace pq::exchange
