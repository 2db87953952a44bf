#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/output_directory.h"
#include "io/block_tensors.h"
#include "io/hf_checkpoint.h"
#include "io/safetensors.h"
#include "io/sharded_writer.h"
#include "model/block_layout.h"
#include "model/quantized_block.h"
#include "model/recipe.h"

namespace pq::io {

/// Version of the layout described in docs/checkpoint-format.md that is written; from the oldest on they are read.
inline constexpr int checkpoint_format_version = 2;
inline constexpr int oldest_checkpoint_format_version = 1;
inline constexpr std::uint64_t default_shard_bytes = 5'000'000'000;

/// What the config.json of a quantized checkpoint says of it, beside the model's own fields.
struct CheckpointHeader {
  Recipe recipe;
  SiteTransforms transforms;                   ///< of every block: steps and sizes; values need not be filled
  std::int64_t prefix_length = 0;              ///< positions; 0: no prefix
  std::vector<std::int32_t> prefix_token_ids;  ///< [prefix_length], or empty: the prefix comes from no known tokens
  std::string prefix_text;                     ///< the tokens' texts, for people
  Json provenance = Json::object();            ///< what is to be said beside program, source and calibration
};
/// With the online rotations of the recipe, and a prefix of these tokens.
CheckpointHeader checkpoint_header(const ModelSpec& spec, const Recipe& recipe,
                                   std::vector<std::int32_t> prefix_token_ids = {}, std::string_view prefix_text = {},
                                   const Json& provenance = Json::object());

/// Every tensor of a quantized checkpoint, in file order: embedding, blocks, final norm, lm_head, prefix. The one truth
/// for writing, reading and checking; docs/checkpoint-format.md explains it.
std::vector<TensorDeclaration> checkpoint_layout(const ModelSpec& spec, const CheckpointHeader& header);

/// Writes a quantized checkpoint directory, streaming: calls come in file order (rows of the embedding, write_block
/// 0 .. n-1, write_final_norm, rows of lm_head, write_prefix, commit). Work goes to OUT.partial; only commit() makes
/// OUT appear, and without it nothing is left behind. Throws SystemError when the disk is full; std::logic_error for
/// calls out of order or values that do not have the layout's sizes.
class QuantizedCheckpointWriter {
 public:
  /// Throws InputError when OUT exists and may not be replaced, or holds the source, or the header does not fit the
  /// model (a prefix token outside the vocabulary); SystemError when the disk has less free space than the checkpoint
  /// takes.
  QuantizedCheckpointWriter(const HfCheckpoint& source, const std::filesystem::path& out, CheckpointHeader header,
                            bool replace, std::uint64_t max_shard_bytes = default_shard_bytes);
  /// The same into a directory that is open already (of output_kind()), because unfinished work lies in it.
  /// check_output has been called before.
  QuantizedCheckpointWriter(const HfCheckpoint& source, std::unique_ptr<OutputDirectory> directory,
                            CheckpointHeader header, std::uint64_t max_shard_bytes = default_shard_bytes);
  /// Refuses, before long work, an OUT that may not be written: throws the InputErrors of OutputDirectory::check, and
  /// one when replacing OUT would destroy the source or an unquantized model.
  static void check_output(const HfCheckpoint& source, const std::filesystem::path& out, bool replace,
                           Unfinished unfinished = Unfinished::discard, bool replace_unfinished = false);
  /// A checkpoint that this program quantized, and nothing beside it.
  static OutputKind output_kind();
  ~QuantizedCheckpointWriter();

  /// Needed (and allowed) only with a prefix; `prefix` must have the header's length and tokens.
  void write_prefix(const Prefix& prefix);
  /// Whole rows of binary16, [rows, hidden], for tensor_names::embedding or tensor_names::lm_head, in any number of
  /// calls.
  void append_rows(std::string_view name, std::span<const std::uint16_t> rows);
  /// The block's transforms must have the header's steps and sizes.
  void write_block(std::int64_t index, const QuantizedBlock& block);
  void write_final_norm(std::span<const float> weight);
  /// A text for people beside the tensors, "README.md" or "report.html", at any time before commit(). A comment at its
  /// end seals it: an OUT whose text was changed since, or is another's, is not replaced.
  void add_text(std::string_view name, std::string_view text);
  /// What such texts can be made of again, report.json, at any time before commit().
  void add_report_record(const Json& record);
  /// Throws std::logic_error when something was not written.
  void commit();

  /// Bytes of all tensors together.
  std::uint64_t tensor_bytes() const { return tensors_->tensor_bytes(); }

 private:
  void check_header() const;
  void write_json_files(const HfCheckpoint& source);

  CheckpointHeader header_;
  ModelSpec spec_;
  std::unique_ptr<OutputDirectory> directory_;
  std::optional<ShardedWriter> tensors_;
};

inline constexpr std::string_view report_record_file = "report.json";
inline constexpr std::string_view report_record_key = "prefixquant_report";  ///< that its object has
struct CheckpointText {
  std::string_view name;
  std::string text;
};
/// Puts the texts of QuantizedCheckpointWriter::add_text into a finished checkpoint. Throws InputError, before the
/// first is written, where one of that name was changed since it was written, or is another's, and `replace` is not
/// set.
void replace_texts(const std::filesystem::path& checkpoint, std::span<const CheckpointText> texts, bool replace);

/// One line of a listing of tensors.
struct TensorSummary {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes;
  std::string file;
};

/// A quantized checkpoint, mapped. Opening checks format version, recipe, and every tensor's type and shape against
/// checkpoint_layout, and loads the prefix; block() copies and checks one block.
class QuantizedCheckpoint {
 public:
  /// `model` as for resolve_model. Throws InputError when it is not a quantized checkpoint, UnsupportedError
  /// for another format version, FormatError for anything that breaks the format.
  static QuantizedCheckpoint open(const std::string& model);

  const std::filesystem::path& directory() const { return directory_; }
  /// tied_embeddings is always false.
  const ModelSpec& spec() const { return spec_; }
  const Recipe& recipe() const { return header_.recipe; }
  /// Steps and sizes of every block's transforms; block() has the values.
  const SiteTransforms& site_transforms() const { return header_.transforms; }
  /// Empty without a prefix.
  const Prefix& prefix() const { return prefix_; }
  const std::string& prefix_text() const { return header_.prefix_text; }
  const Json& provenance() const { return config_.at("quantization_config").at("provenance"); }
  const Json& config() const { return config_; }

  /// Throws FormatError for a scale that is not finite or not above 0, a clip factor, norm or bias that is not finite.
  QuantizedBlock block(std::int64_t index) const;
  /// The same without the weights: `codes` and `weight` of its linear layers stay empty, tensor() gives them in place.
  QuantizedBlock block_without_weights(std::int64_t index) const;
  /// Any tensor, mapped. Throws FormatError when there is none of this name.
  TensorView tensor(std::string_view name) const { return tensors_.tensor(name); }
  /// [vocab, hidden] F16
  TensorView embedding() const { return tensors_.tensor(tensor_names::embedding); }
  /// [vocab, hidden] F16
  TensorView lm_head() const { return tensors_.tensor(tensor_names::lm_head); }
  /// [hidden]
  std::vector<float> final_norm() const;
  /// All tensors in file order.
  std::vector<TensorSummary> tensors() const;

 private:
  QuantizedCheckpoint(std::filesystem::path directory, Json config, ModelSpec spec);
  void read_quantization_config();
  void read_prefix_config(bool own_length);
  void check_layout() const;
  void load_prefix();
  QuantizedBlock copy_block(std::int64_t index, BlockWeights weights) const;

  std::filesystem::path directory_;
  std::string where_;  // config.json, for errors
  Json config_;
  ModelSpec spec_;
  CheckpointHeader header_;  // without provenance
  Prefix prefix_;
  ShardedTensors tensors_;
};

}  // namespace pq::io
