#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "report/quantization_report.h"

namespace pq::report {

/// What quantizing each part of a model costs, measured in the model: `pq analyze OUT`.
struct DamageReport {
  std::string model;
  std::string against;  ///< the model that it was made from
  std::string recipe;
  std::string precision;
  std::string text;
  std::int64_t sequences = 0;
  std::int64_t length = 0;
  double perplexity = 0;            ///< of the original behind the prefix
  double quantized_perplexity = 0;  ///< of the quantized model
  double kl = 0;                    ///< nats, all quantized
  double bits_per_weight = 0;

  std::vector<std::string> linears;                ///< "q_proj", ...
  std::vector<std::vector<double>> linear_errors;  ///< [blocks][linears], of its own output
  std::vector<std::vector<double>> linear_costs;   ///< [blocks][linears], in the block's output
  std::vector<double> block_errors;                ///< [blocks]
  std::vector<double> block_kl;                    ///< [blocks], this block alone quantized

  std::vector<KindCost> kinds;  ///< the largest first
  MendingProposal proposal;
  std::vector<WorstLinear> worst;  ///< ranked by KL divergence, this layer alone quantized
};
Page to_page(const DamageReport& report);

}  // namespace pq::report
