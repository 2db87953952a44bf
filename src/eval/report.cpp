#include "eval/report.h"

#include <fmt/format.h>

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

Json Report::json() const {
  const auto row_json = [&](const Row& row) {
    Json json{{"name", row.name}, {"recipe", row.recipe}};
    json.update(result_json(row.result, compared));
    return json;
  };
  Json json{{"model", model}};
  json.update(row_json(rows.front()));
  json["text"] = text.path;
  json["text_tokens"] = text_tokens;
  json["length"] = text.length;
  json["chunks"] = rows.front().result.chunks;
  json["prefix_token_ids"] = prefix_token_ids;
  json.update(engine);
  json["rows"] = Json::array();
  for (std::size_t i = 1; i < rows.size(); ++i) json["rows"].push_back(row_json(rows[i]));
  return json;
}

std::string Report::table() const {
  std::vector<std::string> header{"model", "perplexity"};
  if (compared) header.insert(header.end(), {"KL divergence", "top-1 agreement"});
  header.emplace_back("seconds");
  Table lines(header);
  for (const Row& row : rows) {
    std::vector<std::string> cells{row.name, fmt::format("{:.3f}", row.result.perplexity)};
    if (compared) {
      cells.push_back(fmt::format("{:.5f}", row.result.kl_divergence));
      cells.push_back(fmt::format("{:.2f}%", 100 * row.result.top1_agreement));
    }
    cells.push_back(fmt::format("{:.1f}", row.result.seconds));
    lines.add_row(std::move(cells));
  }
  return lines.text() + fmt::format("{}: {} chunks of {} tokens{}{}\n", text.path, rows.front().result.chunks,
                                    text.length, compared ? "; distances from FP16" : "", remark);
}

}  // namespace pq::eval
