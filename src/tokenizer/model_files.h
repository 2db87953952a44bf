#pragma once

#include <filesystem>
#include <memory>

#include "tokenizer/tokenizer_parts.h"

namespace pq {

/// tokenizer.json of `model_dir`, with the special tokens and the chat template that the files beside it name. See
/// Tokenizer::load.
std::shared_ptr<const TokenizerParts> load_model_dir(const std::filesystem::path& model_dir);

}  // namespace pq
