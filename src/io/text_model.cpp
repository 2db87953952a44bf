#include "io/text_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/block_layout.h"

namespace pq::io {
namespace {

struct Holder {
  std::string_view model_type;    ///< of the whole model
  std::string_view architecture;  ///< of its language model
};
constexpr std::array holders{Holder{"gemma3", "Gemma3ForCausalLM"}};

/// How names begin in such a model, and in the language model alone: as transformers before 4.52 had it, as later ones
/// do, and as they save such a model without its head.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> starts{{
    {"language_model.model.", "model."},
    {"language_model.lm_head.", "lm_head."},
    {"model.language_model.", "model."},
    {"language_model.", "model."},
}};

/// What wrapping a model for training leaves before every name (DistributedDataParallel, torch.compile, a module that
/// holds the model).
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> wrappers{{
    {"module.", ""},
    {"_orig_mod.", ""},
    {"model.model.", "model."},
    {"model.lm_head.", "lm_head."},
}};

/// How names begin where the base model was saved alone (AutoModel).
constexpr std::array<std::string_view, 4> base_starts{"embed_tokens.", "layers.", "norm.", "rotary_emb."};

struct StandardName {
  std::string name;
  bool part = false;  ///< of the language model in a model for text and images
};

StandardName standard_name(std::string_view name) {
  StandardName standard{std::string(name)};
  const auto replace = [&](const auto& rows) {
    for (const auto& [start, part] : rows) {
      if (!standard.name.starts_with(start)) continue;
      standard.name = std::string(part) + standard.name.substr(start.size());
      return true;
    }
    return false;
  };
  while (replace(wrappers)) {
  }
  standard.part = replace(starts);
  for (const std::string_view start : base_starts) {
    if (standard.name.starts_with(start)) standard.name.insert(0, "model.");
  }
  return standard;
}

bool same_values(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape && std::ranges::equal(a.bytes, b.bytes);
}

class RenamedTensors : public TensorStore {
 public:
  explicit RenamedTensors(std::shared_ptr<const TensorStore> whole, bool with_images) : whole_(std::move(whole)) {
    for (const std::string& name : whole_->names()) {
      StandardName standard = standard_name(name);
      if (with_images && !standard.part && standard.name != tensor_names::lm_head) continue;
      const auto [place, added] = places_.emplace(standard.name, name);
      if (added) {
        names_.push_back(std::move(standard.name));
      } else if (!same_values(whole_->tensor(place->second), whole_->tensor(name))) {
        throw FormatError(whole_->file(),
                          fmt::format("holds '{}' and '{}', two values of one tensor", place->second, name),
                          "remove the one that is not meant");
      }
    }
  }
  bool has(std::string_view name) const override { return places_.contains(std::string(name)); }
  TensorView tensor(std::string_view name) const override {
    const auto found = places_.find(std::string(name));
    return whole_->tensor(found == places_.end() ? std::string(name) : found->second);
  }
  const std::vector<std::string>& names() const override { return names_; }
  const std::string& file() const override { return whole_->file(); }

 private:
  std::shared_ptr<const TensorStore> whole_;
  std::unordered_map<std::string, std::string> places_;
  std::vector<std::string> names_;
};

}  // namespace

Json text_model_config(Json config) {
  if (!config.is_object() || !config.contains("text_config") || !config["text_config"].is_object()) return config;
  for (const Holder& holder : holders) {
    if (!config.contains("model_type") || config["model_type"] != holder.model_type) continue;
    Json text = config["text_config"];
    text["architectures"] = Json::array({holder.architecture});
    for (const char* key : {"bos_token_id", "eos_token_id", "tie_word_embeddings", "quantization_config"}) {
      if (config.contains(key) && !text.contains(key)) text[key] = config[key];
    }
    return text;
  }
  return config;
}

std::shared_ptr<const TensorStore> text_model_tensors(std::shared_ptr<const TensorStore> tensors) {
  bool renamed = false;
  bool with_images = false;
  for (const std::string& name : tensors->names()) {
    const StandardName standard = standard_name(name);
    renamed = renamed || standard.name != name;
    with_images = with_images || standard.part;
  }
  if (!renamed) return tensors;
  return std::make_shared<RenamedTensors>(std::move(tensors), with_images);
}

}  // namespace pq::io
