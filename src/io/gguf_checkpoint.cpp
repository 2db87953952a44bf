#include "io/gguf_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/gguf_config.h"
#include "io/gguf_metadata.h"
#include "io/gguf_names.h"
#include "io/gguf_tokenizer.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

/// Tensors that speak of the rotary embedding: gguf_config reads them.
constexpr std::array<std::string_view, 3> rope_names{"rope_freqs.weight", "rope_factors_long.weight",
                                                     "rope_factors_short.weight"};

/// The parts of a split model, of one that is not split the file alone.
std::vector<GgufFile> open_parts(const fs::path& path) {
  std::vector<GgufFile> parts;
  parts.emplace_back(path);
  const GgufMetadata first(parts.front());
  const std::int64_t count = first.integer("split.count").value_or(1);
  if (count <= 1) return parts;
  constexpr std::int64_t max_parts = 99999;
  if (count > max_parts) first.fail("split.count", "is too large");
  const std::string name = path.string();
  const auto ending = [&](std::int64_t number) { return fmt::format("-{:05}-of-{:05}.gguf", number, count); };
  const std::int64_t number = first.integer("split.no").value_or(0);
  if (number < 0 || number >= count) first.fail("split.no", fmt::format("is {}, of {} parts", number, count));
  if (!name.ends_with(ending(number + 1))) {
    throw InputError(
        name, fmt::format("is part {} of {}, but its name does not end in {}", number + 1, count, ending(number + 1)),
        "give the parts the names that they were made with");
  }
  const std::string stem = name.substr(0, name.size() - ending(number + 1).size());
  if (number != 0) {
    throw InputError(name, fmt::format("is part {} of {}", number + 1, count),
                     fmt::format("name the first: {}", stem + ending(1)));
  }
  std::size_t tensors = parts.front().tensor_names().size();
  for (std::int64_t i = 1; i < count; ++i) {
    const fs::path part = stem + ending(i + 1);
    std::error_code code;
    if (!fs::exists(part, code)) {
      throw InputError(part.string(), fmt::format("part {} of {} is missing", i + 1, count),
                       "download all parts into one folder");
    }
    parts.emplace_back(part);
    const GgufMetadata metadata(parts.back());
    if (metadata.integer("split.no") != i || metadata.integer("split.count") != count) {
      throw FormatError(part.string(), fmt::format("is not part {} of {}, which its name says", i + 1, count),
                        "download it again");
    }
    tensors += parts.back().tensor_names().size();
  }
  const auto expected = GgufMetadata(parts.front()).integer("split.tensors.count");
  if (expected && *expected != static_cast<std::int64_t>(tensors)) {
    throw FormatError(name, fmt::format("speaks of {} tensors, and the parts hold {}", *expected, tensors),
                      "the parts are not of one model: download all again");
  }
  return parts;
}

class GgufTensors : public TensorStore {
 public:
  explicit GgufTensors(std::vector<GgufFile> parts) : parts_(std::move(parts)) {
    const GgufArchitecture& architecture = metadata().architecture();
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      for (const std::string& name : parts_[i].tensor_names()) {
        if (std::find(rope_names.begin(), rope_names.end(), name) != rope_names.end()) continue;
        const auto known = hugging_face_name(name, architecture.name);
        if (!known) {
          throw UnsupportedError(
              fmt::format("{}: tensor '{}'", parts_[i].file(), name),
              fmt::format("has no place in the {} architecture as it is known here", architecture.name),
              "leaving it out would change what the model computes");
        }
        if (!places_.emplace(*known, Place{i, name}).second) {
          throw FormatError(fmt::format("{}: tensor '{}'", parts_[i].file(), name), "stands in two parts",
                            "the parts are not of one model: download all again");
        }
        names_.push_back(*known);
      }
    }
  }

  GgufMetadata metadata() const { return GgufMetadata(parts_.front()); }

  /// By the name in the file.
  std::optional<TensorView> stored(std::string_view name) const {
    for (const GgufFile& part : parts_) {
      if (part.has_tensor(name)) return part.tensor(name);
    }
    return std::nullopt;
  }

  bool has(std::string_view name) const override { return places_.contains(std::string(name)); }
  TensorView tensor(std::string_view name) const override {
    const auto found = places_.find(std::string(name));
    if (found == places_.end()) {
      throw FormatError(file(), fmt::format("there is no tensor for '{}'", name), "the file is not of a whole model");
    }
    TensorView view = parts_[found->second.part].tensor(found->second.name);
    if (view.shape.size() == 1 && is_block_type(view.dtype)) {
      throw UnsupportedError(
          fmt::format("{}: tensor '{}'", view.file, view.name),
          fmt::format("is {}, and norms and biases are read in F32, F16 and BF16", dtype_name(view.dtype)),
          "convert the model again");
    }
    const bool paired =
        metadata().architecture().rope_pairs && (found->second.name.find(".attn_q.") != std::string::npos ||
                                                 found->second.name.find(".attn_k.") != std::string::npos);
    if (paired) view.rope_pairs = head_dim_;
    return view;
  }
  const std::vector<std::string>& names() const override { return names_; }
  const std::string& file() const override { return parts_.front().file(); }

  void set_head_dim(std::int64_t head_dim) { head_dim_ = head_dim; }

 private:
  struct Place {
    std::size_t part;
    std::string name;
  };

  std::vector<GgufFile> parts_;
  std::unordered_map<std::string, Place> places_;
  std::vector<std::string> names_;
  std::int64_t head_dim_ = 0;
};

}  // namespace

GgufCheckpoint open_gguf(const fs::path& path) { return gguf_checkpoint(open_parts(path), path); }

GgufCheckpoint gguf_checkpoint(std::vector<GgufFile> parts, const fs::path& path) {
  const auto tensors = std::make_shared<GgufTensors>(std::move(parts));
  const auto stored = [tensors](std::string_view name) { return tensors->stored(name); };
  check_gguf_tokenizer(tensors->metadata());
  const Json config = gguf_config(tensors->metadata(), stored);
  tensors->set_head_dim(config["head_dim"].get<std::int64_t>());
  TextFiles::Texts texts;
  texts["config.json"] = [config] { return config.dump(2, ' ', false, Json::error_handler_t::replace); };
  texts["generation_config.json"] = [tensors] { return gguf_generation_config(tensors->metadata()).dump(2); };
  texts["tokenizer.json"] = [tensors] { return gguf_tokenizer_json(tensors->metadata()); };
  texts["tokenizer_config.json"] = [tensors] {
    return gguf_tokenizer_config(tensors->metadata()).dump(2, ' ', false, Json::error_handler_t::replace);
  };
  return {tensors, TextFiles(path, std::move(texts))};
}

}  // namespace pq::io
