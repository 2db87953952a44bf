#include "io/hf_config.h"

#include <gmock/gmock.h>

#include "io/test_files.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::small_config;

Json with(std::string_view changes) {
  Json config = small_config();
  config.update(parse_json(changes, "changes"));
  return config;
}

template <typename E>
std::string error_of(std::string_view changes) {
  return message_of<E>([&] { parse_config(with(changes), "dir/config.json"); });
}

TEST(HfConfig, AgreesWithTransformers) {
  const Json cases = read_json_file(fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "io" / "configs.json");
  ASSERT_GE(cases.size(), 15U);
  for (const Json& entry : cases) {
    SCOPED_TRACE(entry["config"].dump());
    const ModelSpec spec = parse_config(entry["config"], "golden");
    const Json& expected = entry["expected"];
    EXPECT_EQ(spec.kv_head_count, expected["kv_head_count"].get<std::int64_t>());
    EXPECT_EQ(spec.head_dim, expected["head_dim"].get<std::int64_t>());
    EXPECT_EQ(spec.max_positions, expected["max_positions"].get<std::int64_t>());
    EXPECT_EQ(spec.rms_norm_eps, expected["rms_norm_eps"].get<double>());
    EXPECT_EQ(spec.block(0).rope, RopeSpec(PlainRope{expected["rope_theta"].get<double>()}));
    EXPECT_EQ(spec.tied_embeddings, expected["tied_embeddings"].get<bool>());
    EXPECT_EQ(spec.eos_token_ids, expected["eos_token_ids"].get<std::vector<std::int64_t>>());
    EXPECT_EQ(spec.bos_token_id ? Json(*spec.bos_token_id) : Json(nullptr), expected["bos_token_id"]);
    for (std::int64_t block = 0; block < spec.block_count; ++block) {
      EXPECT_EQ(spec.window_of_block(block), expected["windows"][static_cast<std::size_t>(block)].get<std::int64_t>())
          << block;
    }
  }
}

TEST(HfConfig, ReadsTheSampleModel) {
  const fs::path path = fs::path(PQ_SOURCE_DIR) / "examples" / "sample-model" / "config.json";
  const ModelSpec spec = parse_config(read_json_file(path), path.string());
  EXPECT_EQ(spec.family->model_type, "llama");
  EXPECT_EQ(spec.hidden_size, 256);
  EXPECT_EQ(spec.kv_head_count, 2);
  EXPECT_TRUE(spec.tied_embeddings);
  EXPECT_FALSE(spec.qkv_bias);
}

TEST(HfConfig, KnowsTheNamesOfModelsWithoutAHead) {
  EXPECT_NO_THROW(parse_config(with(R"({"architectures": ["LlamaModel"]})"), "config"));
  EXPECT_THAT(error_of<UnsupportedError>(R"({"architectures": ["MistralModel"]})"), HasSubstr("MistralModel"));
}

TEST(HfConfig, RefusesWhatItDoesNotCompute) {
  EXPECT_THAT(error_of<UnsupportedError>(R"({"model_type": "gemma2"})"),
              AllOf(HasSubstr("dir/config.json"), HasSubstr("'gemma2'"), HasSubstr("llama, mistral, qwen2, qwen3")));
  EXPECT_THAT(error_of<UnsupportedError>(R"({"architectures": ["LlamaForSequenceClassification"]})"),
              AllOf(HasSubstr("LlamaForSequenceClassification"), HasSubstr("LlamaForCausalLM")));
  EXPECT_THAT(error_of<UnsupportedError>(R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})"),
              HasSubstr("already quantized, by gptq"));
  for (const char* field :
       {R"("hidden_act": "gelu")", R"("attention_bias": true)", R"("mlp_bias": true)",
        R"("partial_rotary_factor": 0.5)", R"("sliding_window": 128)", R"("embedding_multiplier": 12.0)",
        R"("attn_logit_softcapping": 50.0)", R"("final_logit_softcapping": 30.0)", R"("logits_scaling": 8)",
        R"("attention_multiplier": 0.0078)", R"("query_pre_attn_scalar": 256)", R"("qk_layernorm": true)",
        R"("clip_qkv": 8.0)", R"("num_local_experts": 8)", R"("no_rope_layers": [1, 0])",
        R"("residual_multiplier": 0.22)", R"("rope_interleaved": true)", R"("lm_head_bias": true)",
        R"("norm_type": "layer")"}) {
    const std::string name = std::string(field).substr(1, std::string(field).find('"', 1) - 1);
    EXPECT_THAT(error_of<UnsupportedError>(fmt::format("{{{}}}", field)), HasSubstr("'" + name)) << field;
  }
}

TEST(HfConfig, RefusesRotaryEmbeddingsThatItDoesNotCompute) {
  const auto refuses = [](const char* field, const char* named) {
    EXPECT_THAT(error_of<UnsupportedError>(fmt::format("{{{}}}", field)), HasSubstr(named)) << field;
  };
  refuses(R"("rope_scaling": {"rope_type": "dynamic", "factor": 2.0})", "'rope_type' = \"dynamic\"");
  refuses(R"("rope_scaling": {"rope_type": "default", "mrope_section": [1, 2]})", "'mrope_section'");
  refuses(R"("rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25})",
          "'rope_parameters.partial_rotary_factor'");
  refuses(R"("rope_parameters": {"full_attention": {"rope_type": "default"}})", "'full_attention'");
  refuses(R"("rope_local_base_freq": 1e4)", "'rope_local_base_freq'");
  const auto lies = [](const char* field, const char* named) {
    EXPECT_THAT(error_of<FormatError>(fmt::format("{{{}}}", field)), HasSubstr(named)) << field;
  };
  lies(R"("rope_scaling": {"rope_type": "llama3"})", "'factor' is missing");
  lies(R"("rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4})", "'factor' is missing");
  lies(R"("rope_scaling": {"type": "linear", "factor": -2.0})", "'factor'");
  lies(R"("rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]})", "'short_factor'");
  lies(R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
          "original_max_position_embeddings": 64})",
       "'high_freq_factor'");
}

TEST(HfConfig, BothSpellingsSayTheSame) {
  const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "nn";
  for (const char* name : {"llama-rope-llama3", "llama-rope-linear", "qwen2-yarn", "phi3-longrope-short",
                           "phi3-longrope-long", "gemma3-window"}) {
    const ModelSpec spec = parse_config(read_json_file(goldens / name / "config.json"), name);
    EXPECT_EQ(spec, parse_config(read_json_file(goldens / name / "config_v4.json"), name)) << name;
  }
}

TEST(HfConfig, RefusesFamiliesByName) {
  const Json refused = read_json_file(fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "nn" / "refused.json");
  ASSERT_GE(refused.size(), 4U);
  for (const Json& entry : refused) {
    EXPECT_THAT(message_of<UnsupportedError>([&] { parse_config(entry["config"], "dir/config.json"); }),
                HasSubstr(entry["config"]["model_type"].get<std::string>()));
  }
}

TEST(HfConfig, IgnoresWhatChangesNothing) {
  const ModelSpec plain = parse_config(small_config(), "x");
  for (const char* field : {R"("torch_dtype": "bfloat16")",
                            R"("attention_dropout": 0.1)",
                            R"("initializer_range": 0.02)",
                            R"("pretraining_tp": 2)",
                            R"("transformers_version": "5.0")",
                            R"("use_cache": false)",
                            R"("rope_scaling": null)",
                            R"("embedding_multiplier": 1.0)",
                            R"("attn_logit_softcapping": null)",
                            R"("use_mrope": false)",
                            R"("sliding_window": null)",
                            R"("mlp_bias": false)",
                            R"("quantization_config": null)",
                            R"("sliding_window": 9, "use_sliding_window": false, "max_window_layers": 1)",
                            R"("layer_types": ["full_attention", "full_attention"])",
                            R"("partial_rotary_factor": 1.0)",
                            R"("pad_token_id": -1)",
                            R"("rope_scaling": {"type": "default", "factor": null})",
                            R"("num_local_experts": 0)",
                            R"("hidden_act": "swish")",
                            R"("quantization_config": {})",
                            R"("rotary_pct": 1.0)",
                            R"("num_nextn_predict_layers": 0)",
                            R"("lora_rank": 0)",
                            R"("attention_window": -1)",
                            R"("rope_scaling": {"rope_type": "default", "factor": 1.0})",
                            R"("_name_or_path": "x/y")"}) {
    EXPECT_EQ(parse_config(with(fmt::format("{{{}}}", field)), "x"), plain) << field;
  }
}

TEST(HfConfig, RefusesAConfigThatLies) {
  const auto lie = [](std::string_view changes, std::string_view field) {
    EXPECT_THAT(error_of<FormatError>(changes),
                AllOf(HasSubstr("dir/config.json"), HasSubstr(fmt::format("'{}'", field))))
        << changes;
  };
  lie(R"({"hidden_size": 0})", "hidden_size");
  lie(R"({"hidden_size": -16})", "hidden_size");
  lie(R"({"hidden_size": 16.5})", "hidden_size");
  lie(R"({"hidden_size": "16"})", "hidden_size");
  lie(R"({"hidden_size": null})", "hidden_size");
  lie(R"({"hidden_size": 18446744073709551615})", "hidden_size");
  lie(R"({"hidden_size": 18})", "hidden_size");
  lie(R"({"intermediate_size": 9223372036854775807})", "intermediate_size");
  lie(R"({"num_hidden_layers": 1000000})", "num_hidden_layers");
  lie(R"({"vocab_size": 4611686018427387904})", "vocab_size");
  lie(R"({"num_attention_heads": 16, "num_key_value_heads": 3})", "num_attention_heads");
  lie(R"({"num_key_value_heads": 0})", "num_key_value_heads");
  lie(R"({"head_dim": 5})", "head_dim");
  lie(R"({"head_dim": 16777216})", "head_dim");
  lie(R"({"rms_norm_eps": -1e-5})", "rms_norm_eps");
  lie(R"({"rms_norm_eps": "small"})", "rms_norm_eps");
  lie(R"({"rope_theta": 0})", "rope_theta");
  lie(R"({"max_position_embeddings": 0})", "max_position_embeddings");
  lie(R"({"tie_word_embeddings": 1})", "tie_word_embeddings");
  lie(R"({"bos_token_id": "11"})", "bos_token_id");
  lie(R"({"eos_token_id": [2, 1.5]})", "eos_token_id");
  lie(R"({"layer_types": ["full_attention"]})", "layer_types");
  lie(R"({"model_type": 3})", "model_type");
  EXPECT_THAT(message_of<FormatError>([] { parse_config(Json::array(), "dir/config.json"); }),
              HasSubstr("not a JSON object"));
  EXPECT_THAT(error_of<UnsupportedError>(R"({"layer_types": ["full_attention", "sliding_attention"]})"),
              AllOf(HasSubstr("layer_types"), HasSubstr("block 1")));
}

TEST(HfConfig, GenerationConfigAddsEndTokens) {
  ModelSpec spec = parse_config(with(R"({"eos_token_id": 2})"), "x");
  add_generation_config(spec, parse_json(R"({"eos_token_id": [2, 5, 7]})", "g"), "g");
  EXPECT_THAT(spec.eos_token_ids, ElementsAre(2, 5, 7));
  add_generation_config(spec, parse_json(R"({"eos_token_id": 9})", "g"), "g");
  add_generation_config(spec, parse_json(R"({})", "g"), "g");
  EXPECT_THAT(spec.eos_token_ids, ElementsAre(2, 5, 7, 9));
  EXPECT_THAT(
      message_of<FormatError>([&] { add_generation_config(spec, parse_json(R"({"eos_token_id": "x"})", "g"), "g"); }),
      HasSubstr("'eos_token_id'"));
}

TEST(HfConfig, TokensThatTheModelDoesNotHaveAreLeftOut) {
  ::testing::internal::CaptureStderr();
  ModelSpec spec = parse_config(with(R"({"bos_token_id": -1, "eos_token_id": [2, 11, -1]})"), "x");
  add_generation_config(spec, parse_json(R"({"eos_token_id": [12, 3]})", "g"), "g");
  EXPECT_EQ(spec.bos_token_id, std::nullopt);
  EXPECT_THAT(spec.eos_token_ids, ElementsAre(2, 3));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("x: bos_token_id -1 is no token of the 11"), HasSubstr("g: eos_token_id 12")));
}

TEST(HfConfig, NumbersThatAreNoneCountWhereTheyAreUsed) {
  const auto config = [](std::string_view field) {
    return parse_config(parse_json(fmt::format("{{{},{}", field, small_config().dump().substr(1)), "x"), "x");
  };
  for (const char* value : {"NaN", "Infinity", "-Infinity"}) {
    EXPECT_EQ(config(fmt::format(R"("initializer_range": {})", value)), config(R"("initializer_range": 0.02)"));
    for (const char* key : {"rope_theta", "logit_scale", "rope_local_base_freq"}) {
      EXPECT_THAT(message_of<Error>([&] { config(fmt::format(R"("{}": {})", key, value)); }),
                  AllOf(HasSubstr(key), HasSubstr(value)));
    }
  }
}

}  // namespace
}  // namespace pq::io
