#pragma once

#include <gmock/gmock.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/half.h"
#include "io/hf_config.h"
#include "io/quantized_checkpoint.h"
#include "io/test_blocks.h"
#include "io/test_files.h"

namespace pq::io {

inline Recipe recipe_with(std::string_view base, const std::vector<std::string>& settings = {}) {
  Recipe recipe = named_recipe(base);
  for (const std::string& setting : settings) apply_setting(recipe, setting);
  return recipe;
}

/// Everything that goes into a checkpoint, with random values of the right sizes.
struct Contents {
  Prefix prefix;
  std::vector<std::uint16_t> embedding;
  std::vector<std::uint16_t> lm_head;
  std::vector<QuantizedBlock> blocks;
  std::vector<float> final_norm;
};

inline std::vector<std::uint16_t> random_halves(Random& random, std::int64_t count) {
  std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
  for (auto& value : values) value = float_to_f16(static_cast<float>(random.normal()));
  return values;
}

inline Contents random_contents(const ModelSpec& spec, const Recipe& recipe, std::int64_t prefix_tokens) {
  Random random(7, "contents");
  Contents contents;
  contents.prefix.length = prefix_tokens;
  for (std::int64_t i = 0; i < prefix_tokens; ++i)
    contents.prefix.token_ids.push_back(static_cast<std::int32_t>(random.below(11)));
  for (std::int64_t i = 0; i < spec.block_count; ++i) {
    const std::int64_t size = prefix_tokens * spec.kv_size();
    if (prefix_tokens > 0) contents.prefix.blocks.push_back({random_halves(random, size), random_halves(random, size)});
    contents.blocks.push_back(testing::random_block(random, spec, recipe, i));
  }
  contents.embedding = random_halves(random, spec.vocab_size * spec.hidden_size);
  contents.lm_head = random_halves(random, spec.vocab_size * spec.hidden_size);
  contents.final_norm.assign(static_cast<std::size_t>(spec.hidden_size), 1.0F);
  return contents;
}

/// A small random model with biases, and checkpoints made of it with random contents.
class Quantized : public ::testing::Test {
 protected:
  void SetUp() override {
    Json config = testing::small_config();
    config["model_type"] = "qwen2";  // with biases
    config["architectures"] = {"Qwen2ForCausalLM"};
    config["tie_word_embeddings"] = true;
    write_source(config);
  }

  void write_source(const Json& config) {
    testing::write_checkpoint(source_, config, required_tensors(parse_config(config, "config")));
    testing::write_bytes(source_ / "tokenizer.json", R"({"version": "1.0"})");
    testing::write_bytes(source_ / "chat_template.jinja", "{{ x }}");
    testing::write_bytes(source_ / "README.md", "not copied");
  }

  void write_all(QuantizedCheckpointWriter& writer, const Contents& contents) const {
    const auto hidden = static_cast<std::size_t>(16);
    const std::span embedding(contents.embedding);
    writer.append_rows(tensor_names::embedding, embedding.first(3 * hidden));
    writer.append_rows(tensor_names::embedding, embedding.subspan(3 * hidden));
    for (std::size_t i = 0; i < contents.blocks.size(); ++i)
      writer.write_block(static_cast<std::int64_t>(i), contents.blocks[i]);
    writer.write_final_norm(contents.final_norm);
    writer.append_rows(tensor_names::lm_head, contents.lm_head);
    if (!contents.prefix.empty()) writer.write_prefix(contents.prefix);
  }

  Contents write(const Recipe& recipe, std::int64_t prefix_tokens, std::uint64_t max_shard_bytes = default_shard_bytes,
                 bool replace = false) {
    const HfCheckpoint source = HfCheckpoint::open(source_.string());
    const Contents contents = random_contents(source.spec(), recipe, prefix_tokens);
    Json provenance = Json::object();
    provenance["note"] = "a test";
    QuantizedCheckpointWriter writer(
        source, out_, checkpoint_header(source.spec(), recipe, contents.prefix.token_ids, "the text", provenance),
        replace, max_shard_bytes);
    write_all(writer, contents);
    for (const auto& [name, text] : texts_) writer.add_text(name, text);
    EXPECT_FALSE(fs::exists(out_ / "config.json") && !replace);
    writer.commit();
    EXPECT_FALSE(fs::exists(out_.string() + ".partial"));
    return contents;
  }

  template <typename E>
  std::string open_error() const {
    return testing::message_of<E>([&] { QuantizedCheckpoint::open(out_.string()); });
  }

  void edit_config(const std::function<void(Json&)>& edit) const {
    Json config = read_json_file(out_ / "config.json");
    edit(config);
    testing::write_bytes(out_ / "config.json", config.dump());
  }

  /// Where the data of a tensor lies in model.safetensors, for tests that damage it.
  std::size_t offset_of(std::string_view name) const {
    const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
    std::size_t offset = fs::file_size(out_ / "model.safetensors");
    const auto all = checkpoint.tensors();
    for (auto tensor = all.rbegin(); tensor != all.rend(); ++tensor) {
      offset -= tensor->bytes;
      if (tensor->name == name) return offset;
    }
    ADD_FAILURE() << name;
    return 0;
  }

  template <typename T>
  void damage(std::string_view name, std::size_t element, T value) const {
    std::string bytes = testing::read_bytes(out_ / "model.safetensors");
    std::memcpy(bytes.data() + offset_of(name) + element * sizeof(T), &value, sizeof(T));
    testing::write_bytes(out_ / "model.safetensors", bytes);
  }

  testing::TemporaryDirectory directory_;
  fs::path source_ = directory_.path() / "source";
  fs::path out_ = directory_.path() / "deep" / "out";
  std::vector<std::pair<std::string, std::string>> texts_;  ///< what write() adds
};

}  // namespace pq::io
