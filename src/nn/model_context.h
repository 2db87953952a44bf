#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "model/site_transform.h"
#include "nn/block.h"

namespace pq::nn {

/// What the blocks of one model share beside their parameters: the architecture, the rotary table, the transforms that
/// stay online. Makes every BlockContext. `spec` is borrowed.
class ModelContext {
 public:
  ModelContext() = default;
  /// `options`: dtype and device that the blocks compute in. The transforms work in float32 at least, for their entries
  /// are no short binary fractions. `positions`: reach of the rotary table, prefix counted.
  /// `transforms`: of every block. Throws InputError where they do not fit the model.
  ModelContext(const ModelSpec& spec, const SiteTransforms& transforms, std::int64_t positions,
               const at::TensorOptions& options);
  /// Gives block `index` transforms of its own.
  void set_transforms(std::int64_t index, const SiteTransforms& transforms);

  /// What block `index` computes with; borrows this object and `prefix`, which may be null.
  BlockContext block(std::int64_t index, const KeyValue* prefix = nullptr) const;
  /// The same model computing in another type, on the same device, with a rotary table of its own.
  ModelContext computing_in(const at::TensorOptions& options, std::int64_t positions) const;

  const ModelSpec& spec() const { return *spec_; }
  const at::TensorOptions& options() const { return options_; }
  /// Makes the rotary table reach at least `positions`.
  void cover(std::int64_t positions);

 private:
  const ModelSpec* spec_ = nullptr;
  at::TensorOptions options_;
  SiteTransforms common_;
  std::shared_ptr<const BlockTransforms> common_transforms_;
  std::vector<std::shared_ptr<const BlockTransforms>> transforms_;  // one a block
  void make_ropes(std::int64_t positions);

  std::vector<Rope> ropes_;                 // one a kind of the pattern
  std::vector<std::size_t> rope_of_block_;  // one a block of the pattern: which of ropes_
};

}  // namespace pq::nn
