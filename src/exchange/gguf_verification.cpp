#include "exchange/gguf_verification.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/index.h"
#include "base/parallel_for.h"
#include "exchange/block_encoding.h"
#include "exchange/gguf_keys.h"
#include "exchange/gguf_tokens.h"
#include "io/gguf_checkpoint.h"
#include "io/gguf_names.h"
#include "io/hf_config.h"

namespace pq::exchange {
namespace {

constexpr std::int64_t rows_at_once = 1024;

[[noreturn]] void differs(const std::string& name) {
  throw std::logic_error(fmt::format("tensor '{}' read back from the GGUF file differs from the checkpoint's", name));
}

std::vector<float> floats_of(const io::TensorView& view) {
  std::vector<float> values(index(view.size()));
  io::to_float32(view, values);
  return values;
}

/// std::equal compares byte by byte.
bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

class Verification {
 public:
  Verification(const std::filesystem::path& file, const io::QuantizedCheckpoint& checkpoint, const GgufPlan& plan,
               bool exact)
      : checkpoint_(checkpoint), plan_(plan), exact_(exact), written_(open(file)) {}

  WeightDifference run() {
    const ModelSpec& spec = checkpoint_.spec();
    compare_specs(spec, io::parse_config(written_.texts.json("config.json"), "the GGUF file"),
                  drops_windows(spec, plan_.architecture));
    compare_tokenizers(TextFiles(checkpoint_.directory()), written_.texts);
    compare_rows(checkpoint_.embedding(), plan_.embedding.name);
    compare_rows(checkpoint_.lm_head(), plan_.lm_head.name);
    if (floats_of(tensor(plan_.final_norm.name)) != checkpoint_.final_norm()) differs(plan_.final_norm.name);
    for (std::size_t block = 0; block < plan_.blocks.size(); ++block) compare_block(static_cast<std::int64_t>(block));
    return difference_;
  }

 private:
  /// One file, which is not yet called as it will be.
  static io::GgufCheckpoint open(const std::filesystem::path& file) {
    std::vector<io::GgufFile> parts;
    parts.emplace_back(file);
    return io::gguf_checkpoint(std::move(parts), file);
  }

  io::TensorView tensor(const std::string& name) const {
    return written_.tensors->tensor(*io::hugging_face_name(name, plan_.architecture.name));
  }

  void compare_rows(const io::TensorView& ours, const std::string& name) const {
    const io::TensorView theirs = tensor(name);
    if (ours.dtype == theirs.dtype ? !same_bytes(ours.bytes, theirs.bytes) : floats_of(ours) != floats_of(theirs)) {
      differs(name);
    }
  }

  void compare_block(std::int64_t block) {
    const QuantizedBlock source = checkpoint_.block(block);
    for (const BlockTensor& tensor_plan : plan_.blocks[index(block)]) {
      const std::string& name = tensor_plan.declaration.name;
      const io::TensorView view = tensor(name);
      if (tensor_plan.norm) {
        if (floats_of(view) != source.norms[*tensor_plan.norm]) differs(name);
        continue;
      }
      std::int64_t first = 0;
      for (const LinearId id : tensor_plan.linears) {
        const LinearShape shape = linear_shape(checkpoint_.spec(), id);
        const io::TensorView part = view.rows(first, shape.out_features);
        if (tensor_plan.bias) {
          if (floats_of(part) != source.linears[id].bias) differs(name);
        } else {
          compare_weights(part, dequantized(source.linears[id], shape, checkpoint_.recipe().weight), name);
        }
        first += shape.out_features;
      }
    }
  }

  void compare_weights(const io::TensorView& view, const std::vector<float>& expected, const std::string& name) {
    std::vector<float> rows;
    double largest = 0;
    double furthest = 0;
    const std::int64_t columns = view.shape[1];
    const std::int64_t at_once = view.rope_pairs > 0 ? view.shape[0] : rows_at_once;
    for (std::int64_t first = 0; first < view.shape[0]; first += at_once) {
      const std::int64_t count = std::min(at_once, view.shape[0] - first);
      rows.resize(index(count * columns));
      io::rows_to_float32(view, first, count, rows);
      const std::span<const float> ours = std::span(expected).subspan(index(first * columns), rows.size());
      if (same_bytes(std::as_bytes(std::span(rows)), std::as_bytes(ours))) continue;
      if (std::equal(rows.begin(), rows.end(), ours.begin(), ours.end())) continue;  // 0 and -0
      if (exact_) differs(name);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        furthest = std::max(furthest, std::abs(static_cast<double>(rows[i]) - static_cast<double>(ours[i])));
      }
    }
    if (furthest == 0) return;
    for (const float value : expected) largest = std::max(largest, std::abs(static_cast<double>(value)));
    difference_.largest = std::max(difference_.largest, furthest);
    difference_.largest_relative = std::max(difference_.largest_relative, furthest / largest);
  }

  const io::QuantizedCheckpoint& checkpoint_;
  const GgufPlan& plan_;
  bool exact_;
  io::GgufCheckpoint written_;
  WeightDifference difference_;
};

}  // namespace

WeightDifference verify_gguf(const std::filesystem::path& file, const io::QuantizedCheckpoint& checkpoint,
                             const GgufPlan& plan, bool exact) {
  return Verification(file, checkpoint, plan, exact).run();
}

}  // namespace pq::exchange
