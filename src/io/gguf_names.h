#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pq::io {

// Names of tensors in GGUF and in a Hugging Face checkpoint, `architecture` being GGUF's.

/// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; nothing for a name without a place.
std::optional<std::string> hugging_face_name(std::string_view name, std::string_view architecture);
/// The inverse.
std::optional<std::string> gguf_tensor_name(std::string_view name, std::string_view architecture);

}  // namespace pq::io
