#include "io/gguf_names.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <span>

namespace pq::io {
namespace {

struct NameRow {
  std::string_view gguf;
  std::string_view hugging_face;
  std::string_view architecture = {};  ///< empty: all that no other row names
};

constexpr std::array<NameRow, 3> whole_names{{
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
}};

constexpr std::array<NameRow, 16> block_names{{
    {"attn_norm", "input_layernorm"},
    {"ffn_norm", "pre_feedforward_layernorm", "gemma3"},
    {"ffn_norm", "post_attention_layernorm"},
    {"post_attention_norm", "post_attention_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_qkv", "self_attn.qkv_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_up", "mlp.gate_up_proj", "phi3"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};

std::optional<std::string> row_name(std::span<const NameRow> rows, std::string_view part,
                                    std::string_view architecture) {
  for (const NameRow& row : rows) {
    if (row.gguf == part && (row.architecture.empty() || row.architecture == architecture)) {
      return std::string(row.hugging_face);
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> hugging_face_name(std::string_view name, std::string_view architecture) {
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view kind = name.substr(dot);
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  const std::string_view stem = name.substr(0, dot);
  constexpr std::string_view start = "blk.";
  if (!stem.starts_with(start)) {
    auto whole = row_name(whole_names, stem, architecture);
    if (whole) whole->append(kind);
    return whole;
  }
  std::int64_t block = -1;
  const char* end = stem.data() + stem.size();
  const auto [rest, error] = std::from_chars(stem.data() + start.size(), end, block);
  if (error != std::errc() || block < 0 || rest == end || *rest != '.') return std::nullopt;
  const auto part = row_name(block_names, {rest + 1, static_cast<std::size_t>(end - rest - 1)}, architecture);
  if (!part) return std::nullopt;
  return fmt::format("model.layers.{}.{}{}", block, *part, kind);
}

std::optional<std::string> gguf_tensor_name(std::string_view name, std::string_view architecture) {
  const auto of_row = [&](std::span<const NameRow> rows, std::string_view stem) -> const NameRow* {
    for (const NameRow& row : rows) {
      // Not a row that another one of the architecture stands before when the name is read back.
      if (row.hugging_face == stem && row_name(rows, row.gguf, architecture) == stem) return &row;
    }
    return nullptr;
  };
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view stem = name.substr(0, dot);
  const std::string_view kind = name.substr(dot);
  constexpr std::string_view start = "model.layers.";
  if (!stem.starts_with(start)) {
    const NameRow* row = of_row(whole_names, stem);
    return row == nullptr ? std::nullopt : std::optional(fmt::format("{}{}", row->gguf, kind));
  }
  const std::string_view rest = stem.substr(start.size());
  const auto next = rest.find('.');
  if (next == std::string_view::npos) return std::nullopt;
  const NameRow* row = of_row(block_names, rest.substr(next + 1));
  if (row == nullptr) return std::nullopt;
  return fmt::format("blk.{}.{}{}", rest.substr(0, next), row->gguf, kind);
}

}  // namespace pq::io
