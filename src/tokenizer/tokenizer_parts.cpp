#include "tokenizer/tokenizer_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pq {
namespace {

BpeOptions read_bpe_options(const JsonFields& model) {
  if (const nlohmann::json* dropout = model.find("dropout"); dropout != nullptr && *dropout != 0.0) {
    model.unsupported("dropout is not supported", "set it to null");
  }
  for (const std::string_view affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.optional_string(affix).value_or("").empty())
      model.unsupported(fmt::format("{} is not supported", affix));
  }
  return {model.optional_string("unk_token"), model.boolean("fuse_unk", false), model.boolean("byte_fallback", false),
          model.boolean("ignore_merges", false)};
}

template <typename Part>
Part read_part(const JsonFields& root, std::string_view key) {
  return root.find(key) == nullptr ? Part() : Part(root.object(key));
}

// `truncation` and `padding` are how a batch was last encoded, and no part of what a text's tokens are.
const JsonFields& check_root(const JsonFields& root) {
  if (const auto version = root.optional_string("version"); version.value_or("1.0") != "1.0") {
    root.unsupported(fmt::format("version '{}' is not supported", *version), "only 1.0 is");
  }
  return root;
}

PostProcessor read_post_processor(const JsonFields& root, std::size_t id_end) {
  return root.find("post_processor") == nullptr ? PostProcessor()
                                                : PostProcessor(root.object("post_processor"), id_end);
}

}  // namespace

TokenizerParts::TokenizerParts(TokenizerFile file, const JsonFields& root)
    : where(check_root(root).file()),
      normalizer(read_part<Normalizer>(root, "normalizer")),
      pre_tokenizer(read_part<PreTokenizer>(root, "pre_tokenizer")),
      added(root, file.vocab, normalizer),
      model(std::move(file.vocab), file.merges, read_bpe_options(root.object("model")), root.file()),
      post_processor(read_post_processor(root, std::max(added.id_end(), model.vocab().id_end()))),
      decoder(read_part<Decoder>(root, "decoder")) {
  if (!post_processor.prefix.empty()) bos_id = post_processor.prefix.front();
}

std::optional<std::string_view> TokenizerParts::token(std::int32_t id) const {
  if (const AddedToken* token = added.find(id)) return token->pattern;
  if (model.vocab().has(id)) return model.vocab().text(id);
  return std::nullopt;
}

std::shared_ptr<TokenizerParts> TokenizerParts::parse(std::string_view tokenizer_json, std::string_view where) {
  TokenizerFile file = read_tokenizer_file(tokenizer_json, where);
  const nlohmann::json json = std::move(file.json);
  const JsonFields root(json, where, "");
  return std::make_shared<TokenizerParts>(std::move(file), root);
}

std::optional<std::int32_t> TokenizerParts::id_of(std::string_view token) const {
  if (const AddedToken* found = added.find(token)) return found->id;
  const std::int32_t id = model.vocab().find(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

}  // namespace pq
