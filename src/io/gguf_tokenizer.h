#pragma once

#include <string>

#include "base/json.h"
#include "io/gguf_metadata.h"

namespace pq::io {

/// Throws UnsupportedError for a kind of vocabulary or a pre-tokenizer that is not known (named), FormatError for
/// arrays that are missing or do not fit each other. Looks at no token.
void check_gguf_tokenizer(const GgufMetadata& metadata);

/// The tokenizer.json of the model that a GGUF file came from, out of the file's own vocabulary: byte-level BPE
/// (`gpt2`, with the pre-tokenizer that `tokenizer.ggml.pre` names) or BPE of SentencePiece (`llama`, whose merges are
/// made from the scores as Hugging Face's converter does). Throws as check_gguf_tokenizer, and FormatError for scores
/// that order nothing.
std::string gguf_tokenizer_json(const GgufMetadata& metadata);
/// Its tokenizer_config.json: special tokens and chat template.
Json gguf_tokenizer_config(const GgufMetadata& metadata);

}  // namespace pq::io
