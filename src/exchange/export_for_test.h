#pragma once

// Small quantized checkpoints that can be exported, for the tests of this folder.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "io/quantized_checkpoint.h"
#include "io/test_blocks.h"
#include "io/test_files.h"
#include "numerics/scale_type.h"

namespace pq::exchange::testing {

namespace fs = std::filesystem;
using pq::message_of;
using pq::io::testing::read_bytes;
using pq::io::testing::TemporaryDirectory;
using pq::io::testing::write_bytes;

/// GPT-2's letter for a byte, in UTF-8.
inline std::string byte_letter(int byte) {
  int code = byte;
  const auto plain = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255); };
  if (!plain(byte)) {
    code = 256;
    for (int other = 0; other < byte; ++other) code += plain(other) ? 0 : 1;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

/// Byte-level BPE: 256 bytes, two merges, and two special tokens; `vocab_size` of the model is 262.
inline Json small_tokenizer() {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[byte_letter(byte)] = byte;
  vocab["he"] = 256;
  vocab["hel"] = 257;
  const auto added = [](int id, const char* text) {
    return Json{{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  return {
      {"version", "1.0"},
      {"added_tokens", {added(258, "<s>"), added(259, "</s>")}},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model",
       {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}, {"vocab", vocab}, {"merges", {"h e", "he l"}}}}};
}

inline Json small_model() {
  return parse_json(R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 262,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": false,
    "bos_token_id": 258, "eos_token_id": 259})",
                    "small_model");
}

inline Recipe recipe_with(std::string_view base, const std::vector<std::string>& settings = {}) {
  Recipe recipe = named_recipe(base);
  for (const std::string& setting : settings) apply_setting(recipe, setting);
  return recipe;
}

inline std::vector<std::uint16_t> random_halves(Random& random, std::int64_t count) {
  std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
  for (auto& value : values) value = float_to_f16(static_cast<float>(random.normal()));
  return values;
}

/// A random checkpoint of this model and recipe; with 16-bit scales where the recipe has them.
inline io::QuantizedCheckpoint write_quantized(const fs::path& folder, const Json& config, const Recipe& recipe,
                                               std::int64_t prefix_tokens = 3,
                                               const Json& tokenizer = small_tokenizer()) {
  const fs::path source = folder / "source";
  io::testing::write_checkpoint(source, config, io::testing::tensors_for(config));
  write_bytes(source / "tokenizer.json", tokenizer.dump());
  write_bytes(source / "tokenizer_config.json",
              R"({"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ messages }}"})");
  const io::HfCheckpoint model = io::HfCheckpoint::open(source.string());
  const ModelSpec& spec = model.spec();
  Random random(7, "contents");
  Prefix prefix;
  prefix.length = prefix_tokens;
  for (std::int64_t i = 0; i < prefix_tokens; ++i)
    prefix.token_ids.push_back(static_cast<std::int32_t>(random.below(200)));
  io::QuantizedCheckpointWriter writer(model, folder / "out",
                                       io::checkpoint_header(spec, recipe, prefix.token_ids, "the text"), true);
  writer.append_rows(tensor_names::embedding, random_halves(random, spec.vocab_size * spec.hidden_size));
  for (std::int64_t i = 0; i < spec.block_count; ++i) {
    QuantizedBlock block = io::testing::random_block(random, spec, recipe, i);
    for (QuantizedLinear& linear : block.linears) {
      if (recipe.weight.scale_type != ScaleType::float32) {
        const ScaleGrid grid = scale_grid(recipe.weight.scale_type, recipe.weight.bits, recipe.weight.symmetric);
        for (float& scale : linear.scales) scale = nearest_scale(scale, grid);
      }
      for (std::int16_t& zero : linear.zero_points)
        zero = static_cast<std::int16_t>(zero & ((1 << recipe.weight.bits) - 1));
      for (std::uint16_t& weight : linear.weight) weight = float_to_f16(static_cast<float>(random.normal()));
    }
    writer.write_block(i, block);
    if (prefix_tokens > 0) {
      prefix.blocks.push_back({random_halves(random, prefix_tokens * spec.kv_size()),
                               random_halves(random, prefix_tokens * spec.kv_size())});
    }
  }
  writer.write_final_norm(std::vector<float>(static_cast<std::size_t>(spec.hidden_size), 1.0F));
  writer.append_rows(tensor_names::lm_head, random_halves(random, spec.vocab_size * spec.hidden_size));
  if (prefix_tokens > 0) writer.write_prefix(prefix);
  writer.commit();
  return io::QuantizedCheckpoint::open((folder / "out").string());
}

}  // namespace pq::exchange::testing
