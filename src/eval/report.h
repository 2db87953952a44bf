#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/evaluation_text.h"
#include "eval/perplexity.h"

namespace pq::eval {

/// "perplexity", "kl_divergence" and so on, as docs/json.md lists them.
Json result_json(const ComparisonResult& result, bool compared);

/// "length", "chunks", "predicted_tokens" and how the windows were cut.
Json pass_json(const EvaluationText& text, std::size_t pass, const PerplexityResult& result);

/// "wiki.txt: 20 chunks of 2048 tokens", with what was made of every length.
std::string describe_passes(const EvaluationText& text, const std::vector<ComparisonResult>& results);

/// What `pq eval` found out, whichever program ran it.
struct Report {
  struct Row {
    std::string name;                       ///< a recipe's name, "FP16" or "FP16 + prefix"
    std::string recipe;                     ///< a recipe's name or "fp16"
    std::vector<ComparisonResult> results;  ///< one a length
  };

  std::string model;                           ///< as the user named it
  std::vector<Row> rows;                       ///< the first is that of `model`, as it is
  bool compared = false;                       ///< rows have distances from FP16
  EvaluationText text;                         ///< with its lengths fixed
  std::size_t text_tokens = 0;                 ///< of the whole text
  std::vector<std::int32_t> prefix_token_ids;  ///< empty without a prefix
  Json engine = Json::object();                ///< what else JSON says of what ran the models
  std::string remark;                          ///< ends the table's last line: "; kernels avx512"

  Json json() const;
  /// A table with one line a row and length, and below it what was evaluated on.
  std::string table() const;

 private:
  Json row_json(const Row& row, std::size_t pass) const;
  Json other_rows(std::size_t pass) const;
};

}  // namespace pq::eval
