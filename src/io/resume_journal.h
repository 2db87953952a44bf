#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/model_spec.h"
#include "model/quantized_block.h"
#include "model/recipe.h"
#include "model/site_transform.h"

namespace pq::io {

/// Version of the layout described in docs/resume.md. Another one in a journal is refused.
inline constexpr int journal_format_version = 1;

/// A named float32 tensor, row-major; `values` holds the product of `shape` elements.
struct StateTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

/// What tuning holds at the end of an epoch. `notes` must be UTF-8; what is not finite in it comes back as null.
struct TuningState {
  Json notes;
  std::vector<StateTensor> tensors;
  std::vector<std::byte> optimizer;
};

/// Unfinished work of one run in DIRECTORY (OUT.partial/resume): what identifies the run, finished blocks, the state of
/// the tuning in progress. Every file appears whole or not at all and carries a hash of its contents, so that a
/// process killed at any moment leaves a journal that can be read, and a damaged file is noticed. Nothing is written
/// before the first save; until then several processes may open the same directory.
class ResumeJournal {
 public:
  /// `fingerprint` is a JSON object of whatever decides the result. A journal with work in it must carry the same, else
  /// InputError that names DIRECTORY and what differs ("recipe.finetune.epochs was 5 and is 10"). Throws
  /// UnsupportedError for another format version, FormatError for a damaged journal.
  /// `transforms`: steps and sizes of the blocks' site transforms.
  ResumeJournal(std::filesystem::path directory, const Json& fingerprint, ModelSpec spec, Recipe recipe,
                const SiteTransforms& transforms);

  const std::filesystem::path& directory() const { return directory_; }
  /// Whether a journal with work in it was there.
  bool resumed() const { return resumed_; }
  /// Blocks 0 .. n-1 are there.
  std::int64_t finished_blocks() const { return finished_; }

  /// Throws FormatError naming the file when it is damaged or holds a scale that is none (as QuantizedCheckpoint::block
  /// does); std::logic_error for a block that is not finished.
  QuantizedBlock block(std::int64_t index) const;
  /// What save_block was given.
  Json block_notes(std::int64_t index) const;
  /// Also drops the tuning state. Throws SystemError when the disk is full (what was there stays); std::logic_error
  /// when a block before `index` is missing or values do not have the layout's sizes.
  void save_block(std::int64_t index, const QuantizedBlock& block, const Json& notes);

  /// The state that was last saved, when it is of this phase ("block-3", "e2e"). Throws FormatError naming the file
  /// when it is damaged.
  std::optional<TuningState> state(std::string_view phase) const;
  /// Replaces the state, whatever phase it was of. Throws SystemError when the disk is full (the one before stays).
  void save_state(std::string_view phase, const TuningState& state);

 private:
  std::filesystem::path journal_path() const;
  std::filesystem::path block_path(std::int64_t index) const;
  std::filesystem::path state_path() const;
  void require_finished(std::int64_t index) const;
  void read_journal();
  void begin();

  std::filesystem::path directory_;
  Json fingerprint_;
  ModelSpec spec_;
  Recipe recipe_;
  SiteTransforms transforms_;
  std::int64_t finished_ = 0;
  bool resumed_ = false;
  bool begun_ = false;  // journal.json is there and carries fingerprint_
};

}  // namespace pq::io
