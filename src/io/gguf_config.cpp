#include "io/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/family.h"

namespace pq::io {
namespace {

/// Chat models end a turn with one of these, though many files name another token as their EOS.
constexpr std::array<std::string_view, 7> end_of_turn_texts{
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>"};

class Converter {
 public:
  Converter(const GgufMetadata& metadata, const GgufTensor& tensor)
      : metadata_(metadata), tensor_(tensor), row_(*find_family(metadata.architecture().model_type)) {}

  Json config() {
    refuse_experts();
    const std::int64_t hidden = required("embedding_length");
    const std::int64_t heads = required("attention.head_count");
    if (heads < 1) metadata_.fail(metadata_.key("attention.head_count"), "is not positive");
    head_dim_ = integer("attention.key_length").value_or(hidden / heads);
    if (integer("attention.value_length").value_or(head_dim_) != head_dim_) {
      throw UnsupportedError(metadata_.file().file(), "K and V heads differ in size",
                             "no supported family has such heads");
    }
    blocks_ = required("block_count");
    json_["architectures"] = Json::array({std::string(row_.architecture)});
    json_["model_type"] = std::string(row_.model_type);
    json_["hidden_size"] = hidden;
    json_["intermediate_size"] = required("feed_forward_length");
    json_["num_hidden_layers"] = blocks_;
    json_["num_attention_heads"] = heads;
    json_["num_key_value_heads"] =
        metadata_.integer_of_blocks(metadata_.key("attention.head_count_kv")).value_or(heads);
    json_["head_dim"] = head_dim_;
    json_["max_position_embeddings"] = required("context_length");
    json_["vocab_size"] = vocab_size();
    json_["rms_norm_eps"] = required_number("attention.layer_norm_rms_epsilon");
    json_["rope_theta"] = number("rope.freq_base").value_or(10000);
    json_[std::string(row_.activation_key)] = row_.activation == Activation::silu ? "silu" : "gelu_pytorch_tanh";
    json_["tie_word_embeddings"] = !tensor_("output.weight") || !tensor_("token_embd.weight");
    json_["torch_dtype"] = "float32";
    for (const char* name : {"bos", "eos"}) {
      const auto id = metadata_.integer(fmt::format("tokenizer.ggml.{}_token_id", name));
      json_[fmt::format("{}_token_id", name)] = id ? Json(*id) : Json();
    }
    if (!row_.qkv_bias && tensor_("blk.0.attn_q.bias")) json_["attention_bias"] = true;
    add_rope();
    add_windows();
    add_scales();
    return std::move(json_);
  }

 private:
  std::optional<std::int64_t> integer(std::string_view name) const { return metadata_.integer(metadata_.key(name)); }
  std::optional<double> number(std::string_view name) const { return metadata_.number(metadata_.key(name)); }
  std::int64_t required(std::string_view name) const { return metadata_.required_integer(metadata_.key(name)); }
  double required_number(std::string_view name) const {
    const auto value = number(name);
    if (!value) metadata_.fail(metadata_.key(name), "is missing");
    return *value;
  }

  void refuse_experts() const {
    const std::int64_t experts = integer("expert_count").value_or(0);
    if (experts == 0) return;
    throw UnsupportedError(metadata_.file().file(), fmt::format("is a mixture of {} experts (as Mixtral is)", experts),
                           "only dense models are supported");
  }

  std::int64_t vocab_size() const {
    for (const char* name : {"token_embd.weight", "output.weight"}) {
      if (const auto rows = tensor_(name); rows && rows->shape.size() == 2) return rows->shape[0];
    }
    return required("vocab_size");
  }

  std::vector<double> factors(std::string_view name) const {
    const auto view = tensor_(name);
    if (!view) return {};
    std::vector<float> values(static_cast<std::size_t>(view->size()));
    to_float32(*view, values);
    std::vector<double> result;
    for (const float value : values) {
      if (!(value > 0) || !std::isfinite(value)) {
        throw FormatError(fmt::format("{}: tensor '{}'", view->file, name), "holds a factor that is not positive",
                          "download the file again");
      }
      result.push_back(as_written(value));
    }
    return result;
  }

  void add_rope() {
    if (const auto width = integer("rope.dimension_count"); width && *width != head_dim_) {
      json_["partial_rotary_factor"] = static_cast<double>(*width) / static_cast<double>(head_dim_);
    }
    const std::string key = metadata_.key("rope.scaling.type");
    std::string type = metadata_.text(key).value_or("none");
    double factor = number("rope.scaling.factor").value_or(1);
    if (const auto old = number("rope.scale_linear"); old && *old != 1) {
      type = "linear";
      factor = *old;
    }
    const auto long_factors = factors("rope_factors_long.weight");
    const auto short_factors = factors("rope_factors_short.weight");
    if (!long_factors.empty() && !short_factors.empty()) {
      add_longrope(short_factors, long_factors);
    } else if (const auto scaled = factors("rope_freqs.weight"); !scaled.empty()) {
      add_scaled(scaled);
    } else if (type == "linear" && factor != 1) {
      json_["rope_scaling"] = {{"rope_type", "linear"}, {"factor", factor}};
    } else if (type == "yarn") {
      add_yarn(factor);
    } else if (type != "none" && type != "linear") {
      throw UnsupportedError(metadata_.file().file(),
                             fmt::format("key '{}' asks for '{}', which is not known", key, type),
                             "none, linear, yarn, and the factors of Llama 3 and Phi are");
    }
  }

  void add_yarn(double factor) {
    Json scaling{{"rope_type", "yarn"}, {"factor", factor}};
    if (const auto old = integer("rope.scaling.original_context_length")) {
      scaling["original_max_position_embeddings"] = *old;
    }
    if (const auto fast = number("rope.scaling.yarn_beta_fast")) scaling["beta_fast"] = *fast;
    if (const auto slow = number("rope.scaling.yarn_beta_slow")) scaling["beta_slow"] = *slow;
    auto attention = number("rope.scaling.yarn_attn_factor");
    if (!attention) attention = number("rope.scaling.attn_factor");
    if (attention && *attention != 1) scaling["attention_factor"] = *attention * (1 + 0.1 * std::log(factor));
    json_["rope_scaling"] = scaling;
  }

  void add_longrope(const std::vector<double>& short_factors, const std::vector<double>& long_factors) {
    Json scaling{{"rope_type", "longrope"}, {"short_factor", short_factors}, {"long_factor", long_factors}};
    const std::int64_t positions = json_["max_position_embeddings"].get<std::int64_t>();
    const std::int64_t old = integer("rope.scaling.original_context_length").value_or(positions);
    json_["original_max_position_embeddings"] = old;
    if (const auto attention = number("rope.scaling.attn_factor")) {
      const double ratio = static_cast<double>(positions) / static_cast<double>(old);
      const double usual = ratio <= 1 ? 1 : std::sqrt(1 + std::log(ratio) / std::log(static_cast<double>(old)));
      // The file has it in float32, config.json usually not at all.
      if (std::abs(*attention - usual) > 1e-5 * usual) scaling["attention_factor"] = *attention;
    }
    json_["rope_scaling"] = scaling;
  }

  /// Factors of the frequencies: Llama 3's four numbers where these give them, else the factors themselves.
  void add_scaled(const std::vector<double>& factors) {
    const double factor = *std::max_element(factors.begin(), factors.end());
    const double width = static_cast<double>(2 * factors.size());
    const double theta = json_["rope_theta"].get<double>();
    if (std::all_of(factors.begin(), factors.end(), [](double x) { return x == 1; })) return;
    // The context of the first training is not in the file: some power of two (8192 for all of Llama 3).
    for (double old = 32; old <= 1 << 20; old *= 2) {
      const auto expected = [&](std::size_t i) {
        constexpr double low = 1;
        constexpr double high = 4;
        const double wavelength = 2 * std::numbers::pi * std::pow(theta, 2 * static_cast<double>(i) / width);
        if (wavelength < old / high) return 1.0;
        if (wavelength > old / low) return factor;
        const double smooth = (old / wavelength - low) / (high - low);
        return 1 / ((1 - smooth) / factor + smooth);
      };
      bool alike = true;
      for (std::size_t i = 0; i < factors.size(); ++i)
        alike &= std::abs(factors[i] - expected(i)) <= 1e-4 * expected(i);
      if (!alike) continue;
      json_["rope_scaling"] = {{"rope_type", "llama3"},
                               {"factor", factor},
                               {"low_freq_factor", 1.0},
                               {"high_freq_factor", 4.0},
                               {"original_max_position_embeddings", static_cast<std::int64_t>(old)}};
      return;
    }
    json_["rope_scaling"] = {{"rope_type", "longrope"},
                             {"short_factor", factors},
                             {"long_factor", factors},
                             {"attention_factor", 1.0},
                             {"original_max_position_embeddings", json_["max_position_embeddings"]}};
  }

  void add_windows() {
    const auto window = integer("attention.sliding_window");
    if (!row_.sliding.supported) {
      // llama.cpp's converter leaves Mistral's window out; a file that has one asks for it.
      if (window && *window > 0) json_["sliding_window"] = *window;
      return;
    }
    json_["sliding_window"] = window && *window > 0 ? Json(*window) : Json();
    const std::string key = metadata_.key("attention.sliding_window_pattern");
    const GgufValue* pattern = metadata_.file().find(key);
    if (row_.sliding.pattern == 0 || pattern == nullptr) return;
    if (!std::holds_alternative<GgufArray>(*pattern)) {
      json_["sliding_window_pattern"] = *metadata_.integer(key);
      return;
    }
    const auto& blocks = std::get<GgufArray>(*pattern);
    if (blocks.type == GgufType::string || static_cast<std::int64_t>(blocks.count) != blocks_) {
      metadata_.fail(key, fmt::format("does not list {} blocks", blocks_));
    }
    Json types = Json::array();
    for (std::uint64_t i = 0; i < blocks.count; ++i) {
      types.push_back(blocks.number(i) != 0 ? "sliding_attention" : "full_attention");
    }
    json_["layer_types"] = types;
  }

  void add_scales() {
    if (row_.multipliers) {
      json_["embedding_multiplier"] = number("embedding_scale").value_or(1);
      json_["residual_multiplier"] = number("residual_scale").value_or(1);
      json_["attention_multiplier"] = number("attention.scale").value_or(1 / std::sqrt(static_cast<double>(head_dim_)));
      json_["logits_scaling"] = number("logit_scale").value_or(1);
    }
    if (row_.scaled_embedding) {
      // Gemma 3 27B alone scales by hidden_size / heads, as llama.cpp has it.
      constexpr std::int64_t blocks_of_27b = 62;
      const auto heads = json_["num_attention_heads"].get<std::int64_t>();
      json_["query_pre_attn_scalar"] =
          blocks_ == blocks_of_27b ? json_["hidden_size"].get<std::int64_t>() / heads : head_dim_;
      json_["rope_local_base_freq"] = number("rope.freq_base_swa").value_or(10000);
    }
    for (const char* name : {"attn_logit_softcapping", "final_logit_softcapping"}) {
      if (const auto cap = number(name); cap && *cap != 0) json_[name] = *cap;
    }
  }

  const GgufMetadata& metadata_;
  const GgufTensor& tensor_;
  const FamilyRow& row_;
  std::int64_t head_dim_ = 0;
  std::int64_t blocks_ = 0;
  Json json_;
};

}  // namespace

Json gguf_config(const GgufMetadata& metadata, const GgufTensor& tensor) {
  return Converter(metadata, tensor).config();
}

Json gguf_generation_config(const GgufMetadata& metadata) {
  Json json = Json::object();
  if (const auto bos = metadata.integer("tokenizer.ggml.bos_token_id")) json["bos_token_id"] = *bos;
  std::vector<std::int64_t> ends;
  const auto add = [&](std::int64_t id) {
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  };
  for (const char* name : {"eos", "eot", "eom"}) {
    if (const auto id = metadata.integer(fmt::format("tokenizer.ggml.{}_token_id", name))) add(*id);
  }
  const auto tokens = metadata.array("tokenizer.ggml.tokens");
  const auto types = metadata.array("tokenizer.ggml.token_type");
  if (tokens && types && tokens->type == GgufType::string && types->type != GgufType::string) {
    std::uint64_t id = 0;
    constexpr double control = 3;
    tokens->for_each_string([&](std::string_view token) {
      const bool ends_turn =
          std::find(end_of_turn_texts.begin(), end_of_turn_texts.end(), token) != end_of_turn_texts.end();
      if (ends_turn && id < types->count && types->number(id) == control) add(static_cast<std::int64_t>(id));
      ++id;
    });
  }
  if (!ends.empty()) json["eos_token_id"] = ends;
  return json;
}

}  // namespace pq::io
