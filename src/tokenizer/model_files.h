#pragma once

#include <memory>

#include "base/text_files.h"
#include "tokenizer/tokenizer_parts.h"

namespace pq {

/// tokenizer.json of `files`, with the special tokens and the chat template that those beside it name. See
/// Tokenizer::load.
std::shared_ptr<const TokenizerParts> load_model_files(const TextFiles& files);

}  // namespace pq
