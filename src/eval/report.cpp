#include "eval/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "base/memory_usage.h"
#include "base/table.h"

namespace pq::eval {

Json result_json(const ComparisonResult& result, bool compared) {
  Json json{{"perplexity", result.perplexity}, {"mean_nll", result.mean_nll}};
  if (compared) {
    json["kl_divergence"] = result.kl_divergence;
    json["top1_agreement"] = result.top1_agreement;
  }
  json["seconds"] = result.seconds;
  json["peak_memory_bytes"] = peak_resident_bytes();
  return json;
}

Json pass_json(const EvaluationText& text, std::size_t pass, const PerplexityResult& result) {
  Json json{{"length", text.lengths[pass]}, {"chunks", result.chunks}, {"predicted_tokens", result.tokens}};
  if (text.stride > 0) json["stride"] = text.stride;
  if (text.llama_cpp_chunks) json["llama_cpp_chunks"] = true;
  return json;
}

std::string describe_passes(const EvaluationText& text, const std::vector<ComparisonResult>& results) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < results.size(); ++i) parts.push_back(text.described(results[i], text.lengths[i]));
  return fmt::format("{}: {}", text.path, fmt::join(parts, ", "));
}

Json Report::row_json(const Row& row, std::size_t pass) const {
  Json json{{"name", row.name}, {"recipe", row.recipe}};
  json.update(result_json(row.results[pass], compared));
  return json;
}

Json Report::other_rows(std::size_t pass) const {
  Json others = Json::array();
  for (std::size_t i = 1; i < rows.size(); ++i) others.push_back(row_json(rows[i], pass));
  return others;
}

Json Report::json() const {
  Json json{{"model", model}};
  json.update(row_json(rows.front(), 0));
  json["text"] = text.path;
  json["text_tokens"] = text_tokens;
  json.update(pass_json(text, 0, rows.front().results.front()));
  json["prefix_token_ids"] = prefix_token_ids;
  json.update(engine);
  json["rows"] = other_rows(0);
  if (text.lengths.size() == 1) return json;
  json["lengths"] = Json::array();
  for (std::size_t pass = 0; pass < text.lengths.size(); ++pass) {
    Json one = pass_json(text, pass, rows.front().results[pass]);
    one.update(row_json(rows.front(), pass));
    one["rows"] = other_rows(pass);
    json["lengths"].push_back(std::move(one));
  }
  return json;
}

std::string Report::table() const {
  const bool several = text.lengths.size() > 1;
  std::vector<std::string> header{"model"};
  if (several) header.emplace_back("length");
  header.emplace_back("perplexity");
  if (compared) header.insert(header.end(), {"KL divergence", "top-1 agreement"});
  header.emplace_back("seconds");
  Table lines(header);
  for (const Row& row : rows) {
    for (std::size_t pass = 0; pass < row.results.size(); ++pass) {
      const ComparisonResult& result = row.results[pass];
      std::vector<std::string> cells{pass == 0 ? row.name : ""};
      if (several) cells.push_back(std::to_string(text.lengths[pass]));
      cells.push_back(fmt::format("{:.3f}", result.perplexity));
      if (compared) {
        cells.push_back(fmt::format("{:.5f}", result.kl_divergence));
        cells.push_back(fmt::format("{:.2f}%", 100 * result.top1_agreement));
      }
      cells.push_back(fmt::format("{:.1f}", result.seconds));
      lines.add_row(std::move(cells));
    }
  }
  return lines.text() + fmt::format("{}{}{}\n", describe_passes(text, rows.front().results),
                                    compared ? "; distances from FP16" : "", remark);
}

}  // namespace pq::eval
