#pragma once

#include <cstdint>
#include <vector>

#include "tokenizer/json_fields.h"

namespace pq {

/// The "post_processor" of tokenizer.json for a single sequence: what encode() adds with add_special_tokens.
/// TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel (which changes no id), Sequence.
struct PostProcessor {
  std::vector<std::int32_t> prefix;
  std::vector<std::int32_t> suffix;

  PostProcessor() = default;
  /// `id_end`: special ids are below it. Throws FormatError, UnsupportedError (another type; a template that does not
  /// hold sequence A exactly once).
  PostProcessor(const JsonFields& json, std::size_t id_end);

 private:
  void add(const JsonFields& json, std::size_t id_end, int depth);
  void add_template(const JsonFields& json, std::size_t id_end);

  bool has_template_ = false;
};

}  // namespace pq
