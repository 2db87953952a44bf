#pragma once

#include <cstdint>

#include "base/text_files.h"
#include "exchange/gguf_writer.h"
#include "model/model_spec.h"

namespace pq::exchange {

/// The tokenizer of a model as GGUF keeps one: `tokenizer.ggml.*` and `tokenizer.chat_template`, with `vocab_size`
/// tokens. Byte-level BPE becomes kind `gpt2` with the name of its pre-tokenizer, BPE with byte fallback kind `llama`,
/// whose scores are the ranks of the merges (llama.cpp applies the merge of the largest score first). Throws
/// UnsupportedError naming the part of tokenizer.json that has no place there: another kind of model, a pre-tokenizer
/// that is in no row of io/gguf_vocabulary.h, special tokens around a text other than BOS and EOS. FormatError for a
/// vocabulary that is larger than the model's.
void add_tokenizer(GgufKeys& keys, const TextFiles& texts, const ModelSpec& spec);

/// Holds the tokenizer that `written` (the texts of a GGUF file) describes against the model's own, on texts of many
/// kinds and on the chat template. Throws UnsupportedError with the first text whose tokens differ.
void compare_tokenizers(const TextFiles& texts, const TextFiles& written);

}  // namespace pq::exchange
