#pragma once

// GGUF bytes for tests, right or wrong.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pq::io::testing {

template <typename T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

inline std::string gguf_text(std::string_view text) { return bytes_of(std::uint64_t{text.size()}) + std::string(text); }

/// A file in the making; every member may be made to lie before bytes().
struct GgufBuilder {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t tensor_count = 0;
  std::uint64_t key_count = 0;
  std::string keys;
  std::string infos;
  std::string data;

  GgufBuilder& value(std::string_view key, std::uint32_t type, std::string_view raw) {
    keys += gguf_text(key) + bytes_of(type) + std::string(raw);
    ++key_count;
    return *this;
  }
  GgufBuilder& text(std::string_view key, std::string_view text) { return value(key, 8, gguf_text(text)); }
  GgufBuilder& u32(std::string_view key, std::uint32_t number) { return value(key, 4, bytes_of(number)); }
  GgufBuilder& f32(std::string_view key, float number) { return value(key, 6, bytes_of(number)); }
  GgufBuilder& boolean(std::string_view key, bool flag) { return value(key, 7, bytes_of(std::uint8_t{flag})); }
  GgufBuilder& texts(std::string_view key, const std::vector<std::string>& texts) {
    std::string raw = bytes_of(std::uint32_t{8}) + bytes_of(std::uint64_t{texts.size()});
    for (const std::string& text : texts) raw += gguf_text(text);
    return value(key, 9, raw);
  }
  template <typename T>
  GgufBuilder& numbers(std::string_view key, std::uint32_t type, const std::vector<T>& numbers) {
    std::string raw = bytes_of(type) + bytes_of(std::uint64_t{numbers.size()});
    for (const T number : numbers) raw += bytes_of(number);
    return value(key, 9, raw);
  }
  /// `sizes` fastest first.
  GgufBuilder& info(std::string_view name, const std::vector<std::uint64_t>& sizes, std::uint32_t type,
                    std::uint64_t offset) {
    infos += gguf_text(name) + bytes_of(static_cast<std::uint32_t>(sizes.size()));
    for (const std::uint64_t size : sizes) infos += bytes_of(size);
    infos += bytes_of(type) + bytes_of(offset);
    ++tensor_count;
    return *this;
  }
  /// With its data, at the place where it belongs.
  GgufBuilder& tensor(std::string_view name, const std::vector<std::uint64_t>& sizes, std::uint32_t type,
                      std::string_view raw) {
    info(name, sizes, type, data.size());
    data += raw;
    data.resize((data.size() + 31) / 32 * 32);
    return *this;
  }
  /// F32, all of one value.
  GgufBuilder& floats(std::string_view name, const std::vector<std::uint64_t>& sizes, float fill = 1) {
    std::uint64_t count = 1;
    for (const std::uint64_t size : sizes) count *= size;
    std::string raw;
    for (std::uint64_t i = 0; i < count; ++i) raw += bytes_of(fill);
    return tensor(name, sizes, 0, raw);
  }

  std::string bytes() const {
    std::string out = magic + bytes_of(version) + bytes_of(tensor_count) + bytes_of(key_count) + keys + infos;
    out.resize((out.size() + 31) / 32 * 32);
    return out + data;
  }
};

/// Keys of a llama of two blocks, 8 channels, 2 heads and 11 tokens, without its tensors.
inline GgufBuilder small_llama_keys() {
  GgufBuilder file;
  file.text("general.architecture", "llama")
      .u32("llama.block_count", 2)
      .u32("llama.context_length", 64)
      .u32("llama.embedding_length", 8)
      .u32("llama.feed_forward_length", 12)
      .u32("llama.attention.head_count", 2)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5F)
      .text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", "gpt-2")
      .texts("tokenizer.ggml.tokens", {"a", "b", "c", "ab", "abc", "d", "e", "f", "g", "h", "<e>"})
      .numbers<std::int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3})
      .texts("tokenizer.ggml.merges", {"a b", "ab c"})
      .u32("tokenizer.ggml.eos_token_id", 10);
  return file;
}

/// The tensors of block `block` of that model.
inline void add_small_block(GgufBuilder& file, int block) {
  const std::string start = "blk." + std::to_string(block) + ".";
  file.floats(start + "attn_norm.weight", {8}).floats(start + "ffn_norm.weight", {8});
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
    file.floats(start + name + ".weight", {8, 8}, 0.5F);
  for (const char* name : {"ffn_gate", "ffn_up"}) file.floats(start + name + ".weight", {8, 12}, 0.25F);
  file.floats(start + "ffn_down.weight", {12, 8}, 0.25F);
}

inline GgufBuilder small_llama() {
  GgufBuilder file = small_llama_keys();
  file.floats("token_embd.weight", {8, 11}, 0.1F).floats("output_norm.weight", {8});
  add_small_block(file, 0);
  add_small_block(file, 1);
  return file;
}

}  // namespace pq::io::testing
