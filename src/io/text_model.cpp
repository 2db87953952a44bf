#include "io/text_model.h"

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pq::io {
namespace {

struct Holder {
  std::string_view model_type;    ///< of the whole model
  std::string_view architecture;  ///< of its language model
};
constexpr std::array holders{Holder{"gemma3", "Gemma3ForCausalLM"}};

/// How names begin in such a model, and in the language model alone; the first is how transformers before 4.52 had it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> starts{{
    {"language_model.model.", "model."},
    {"language_model.lm_head.", "lm_head."},
    {"model.language_model.", "model."},
}};

std::string alone(const std::string& name) {
  for (const auto& [whole, part] : starts) {
    if (name.starts_with(whole)) return std::string(part) + name.substr(whole.size());
  }
  return {};
}

class TextTensors : public TensorStore {
 public:
  explicit TextTensors(std::shared_ptr<const TensorStore> whole) : whole_(std::move(whole)) {
    for (const std::string& name : whole_->names()) {
      std::string part = alone(name);
      if (part.empty() && name == "lm_head.weight") part = name;
      if (part.empty()) continue;  // of the images' half
      names_.push_back(part);
      places_.emplace(std::move(part), name);
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
  for (const std::string& name : tensors->names()) {
    if (!alone(name).empty()) return std::make_shared<TextTensors>(std::move(tensors));
  }
  return tensors;
}

}  // namespace pq::io
