#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/model_spec.h"
#include "model/recipe.h"
#include "pipeline/pipeline.h"
#include "pipeline/preparation.h"
#include "quant/quantized_model.h"
#include "report/model_card.h"
#include "report/quantization_report.h"

namespace pq::lab {

/// What goes by of a quantized model: the figures of a report that stand in its blocks.
struct SeenBlocks {
  std::vector<std::vector<double>> weight_scales;  ///< [blocks][linears]: the median; NaN where there are none
  std::vector<std::vector<double>> site_scales;    ///< [blocks][sites]: static, the largest
  std::vector<std::vector<double>> site_clips;     ///< [blocks][sites]: dynamic, of the maximum
};

/// Hands everything on and remembers what it saw.
class WatchingSink : public quant::QuantizedModelSink {
 public:
  /// Both are borrowed.
  WatchingSink(quant::QuantizedModelSink& next, const Recipe& recipe) : next_(next), recipe_(recipe) {}
  void embedding_rows(std::span<const std::uint16_t> rows) override { next_.embedding_rows(rows); }
  void block(std::int64_t index, QuantizedBlock block) override;
  void final_norm(const std::vector<float>& weight) override { next_.final_norm(weight); }
  void lm_head_rows(std::span<const std::uint16_t> rows) override { next_.lm_head_rows(rows); }
  void prefix(Prefix prefix) override { next_.prefix(std::move(prefix)); }

  const SeenBlocks& seen() const { return seen_; }

 private:
  quant::QuantizedModelSink& next_;
  const Recipe& recipe_;
  SeenBlocks seen_;
};

/// A run of `pq quantize` that has come to its end.
struct QuantizeOutcome {
  const std::string& model;  ///< as the user named it
  const std::filesystem::path& out;
  const Recipe& asked;  ///< before the model decided what it leaves open
  const Recipe& recipe;
  const std::vector<std::int32_t>& prefix;
  const std::string& prefix_text;
  const quant::QuantizeSummary& summary;
  double seconds = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t tensor_bytes = 0;
};

/// The names of the linear layers, and the errors as pages have them: of the layers themselves and in their blocks'
/// outputs, [blocks][linears], and of the blocks.
void set_layer_errors(const std::vector<quant::LayerErrors>& errors, std::vector<std::string>& linears,
                      std::vector<std::vector<double>>& linear_errors, std::vector<std::vector<double>>& linear_costs,
                      std::vector<double>& block_errors);
/// Fills the kinds of numbers and what to mend first, all but the command.
void set_kinds(const ModelSpec& spec, const Recipe& recipe, const std::vector<quant::KindDamage>& damage,
               const std::vector<quant::LayerErrors>& errors, std::vector<report::KindCost>& kinds,
               report::MendingProposal& proposal);
Json kinds_json(const std::vector<report::KindCost>& kinds);
Json proposal_json(const report::MendingProposal& proposal);
/// "pq quantize MODEL -o OUT --recipe w4a4kv4-static --set A --calibration TEXT": `settings` on top of the recipe.
std::string quantize_command(const std::string& model, const std::string& out, const Recipe& recipe,
                             const std::vector<std::string>& settings, const std::string& calibration);
/// The last name of a path, without the directories that lead there.
std::string last_name(const std::string& path);

report::QuantizationReport quantization_report(quant::Preparation& preparation, const QuantizeOutcome& outcome,
                                               const SeenBlocks& seen);
/// Names no directory of this machine.
report::ModelCard model_card(quant::Preparation& preparation, const QuantizeOutcome& outcome);

/// "--recipe w4a4kv4-static --set kv.bits=8": what makes a named recipe this one.
std::string recipe_flags(const Recipe& recipe);

}  // namespace pq::lab
