#pragma once

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "report/page.h"
#include "report/quantization_report.h"

// One figure of every kind, on a page, with texts that nobody should trust. Whatever the tests and a look at the page
// need: made of formulas, no model's figures.

namespace pq::report {

inline const std::vector<std::string>& hostile_tokens() {
  static const std::vector<std::string> tokens{"<script>alert(1)</script>",
                                               "</svg><img src=x onerror=alert(1)>",
                                               "\" onmouseover=\"alert(1)",
                                               "&lt;",
                                               "\xe2\x80\xaegnp.exe",  // right-to-left override
                                               "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d",
                                               " the",
                                               "\n\n",
                                               std::string("a\0b", 3),
                                               "\x1b[31m",
                                               "\xff\xfe",
                                               "]]>",
                                               "--><!--",
                                               "{{7*7}}",
                                               "|`*_[x](javascript:alert(1))",
                                               "\xef\xbb\xbf",
                                               "a\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81",
                                               "=SUM(A1)",
                                               "\xf0\x9f\x98\x80",
                                               ""};
  return tokens;
}

inline LineChart sample_lines() {
  LineChart chart{{"ladder", "The prefix takes the perplexity from 4200 back to 13.9",
                   "Perplexity after each step; bars are the spread over 3 seeds."},
                  {"step", ""},
                  {"perplexity", "", Scale::log},
                  {},
                  {{12.7, "FP16"}}};
  chart.x.categories = {"RTN",
                        "+ rotation",
                        "+ grid search",
                        "+ prefix",
                        "+ GPTQ",
                        "+ static quantization",
                        "+ prefix (static)",
                        "+ GPTQ (static)"};
  const std::vector<std::vector<double>> rows{{4200, 380, 260, 14.6, 13.9, 610, 15.2, 14.1},
                                              {65, 19, 18.2, 13.3, 13.1, 30, 13.6, 13.3}};
  for (std::size_t s = 0; s < rows.size(); ++s) {
    Series series{s == 0 ? "w4a4kv4" : "w4a8kv4", {}};
    for (std::size_t i = 0; i < rows[s].size(); ++i)
      series.points.push_back({static_cast<double>(i), rows[s][i], 0, rows[s][i] * 0.08});
    chart.series.push_back(series);
  }
  return chart;
}

inline LineChart sample_pareto() {
  LineChart chart{{"pareto", "At 4.3 bits a weight, the static recipe is the best of those that were tried", ""},
                  {"size", "bits a weight"},
                  {"perplexity", ""},
                  {},
                  {{12.7, "FP16"}}};
  const std::vector<std::string> names{"w4a4kv4", "w4a8kv4", "w3a16",
                                       "w4a16",   "w8a8",    "w4a4kv4-static with a very long name"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    Point point{3 + static_cast<double>(i) * 0.24, 18.0 - static_cast<double>(i), 0, 0.2, true, names[i]};
    if (i == 4) point = {8, 12.9, 0, 0.1, true, names[i]};
    chart.series.push_back({names[i], {point}, Drawing::points});
  }
  return chart;
}

inline LineChart sample_positions(int block) {
  LineChart chart{{fmt::format("maxima-{}", block), "Two tokens stand out by a factor of a thousand",
                   "The largest magnitude of each token at the input of down_proj."},
                  {"position", ""},
                  {"largest magnitude", "", Scale::log},
                  {},
                  {}};
  chart.x.whole = true;
  for (int s = 0; s < 3; ++s) {
    Series series{s == 0 ? "original" : s == 1 ? "rotated" : "rotated, behind the prefix", {}, Drawing::line};
    for (int i = 0; i < 512; ++i) {
      double value = (1.2 + 0.8 * std::sin(i * 0.37 + block) * std::cos(i * 0.11)) * (s == 0 ? 2 : 0.7);
      Point point{static_cast<double>(i), value};
      if (s < 2 && (i == 0 || i == 13 || i == 300))
        point = {static_cast<double>(i), value * 1000 / (s + 1), 0, 0, true, i == 0 ? "<s>" : i == 13 ? "." : "\n"};
      series.points.push_back(point);
    }
    chart.series.push_back(series);
  }
  return chart;
}

inline HeatMap sample_heat(int rows) {
  HeatMap map{{fmt::format("errors-{}", rows), "Block 11's down_proj hurts most",
               "Relative error of each linear's output, quantized alone."},
              "block",
              "linear",
              {},
              {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
              {},
              "relative output error",
              "",
              Scale::log};
  for (int r = 0; r < rows; ++r) {
    map.rows.push_back(std::to_string(r));
    for (int c = 0; c < 7; ++c)
      map.values.push_back(r == 3 && c == 3 ? std::nan("")
                                            : 0.002 * std::exp(2.2 + std::sin(r * 1.3 + c) * 1.4 + (c == 6 ? 1 : 0)) *
                                                  (r == 11 && c == 6 ? 6 : 1));
  }
  return map;
}

inline Landscape sample_landscape(int id, int tokens, int channels, bool outliers) {
  Landscape landscape{{fmt::format("landscape-{}", id),
                       outliers ? "Three tokens carry the largest magnitudes" : "Behind the prefix, none stands out",
                       "Input of down_proj of block 11."},
                      {},
                      static_cast<std::size_t>(channels),
                      {}};
  for (int t = 0; t < tokens; ++t) {
    landscape.tokens.push_back(t % 7 == 0 ? hostile_tokens()[static_cast<std::size_t>(t / 7) % hostile_tokens().size()]
                                          : fmt::format(" word{}", t));
    for (int c = 0; c < channels; ++c) {
      double value = std::fabs(std::sin(t * 12.9898 + c * 78.233) * 0.9) + 0.01;
      if (outliers && (t == 0 || t == 21 || t == 40) && c % 97 == 13) value = 900.0 / (1 + t);
      landscape.magnitudes.push_back(static_cast<float>(value));
    }
  }
  landscape.from = 0.01;
  landscape.to = 1000;
  return landscape;
}

inline BarChart sample_bars() {
  BarChart chart{{"tokens", "The full stop is the token that is most often an outlier", ""},
                 {"times an outlier", ""},
                 "token",
                 {},
                 {{"original", {}}, {"behind the prefix", {}, {}}},
                 {}};
  for (std::size_t i = 0; i < hostile_tokens().size(); ++i) {
    chart.categories.push_back(std::string(hostile_tokens()[i]));
    chart.series[0].values.push_back(1000.0 / static_cast<double>(i + 1));
    chart.series[1].values.push_back(i == 2 ? std::nan("") : static_cast<double>(i) * 3);
    chart.series[1].spreads.push_back(static_cast<double>(i));
  }
  return chart;
}

inline PositionStrip sample_strip() {
  PositionStrip strip{{"positions", "Outliers stand at the beginning; behind the prefix there are none",
                       "Over 64 sequences of 512 tokens."},
                      512,
                      "outlier tokens",
                      {{"original", {}}, {"rotated", {}}, {"rotated, behind the prefix", {}}}};
  for (std::size_t i = 0; i < 200; ++i)
    strip.rows[i % 2].marks.push_back({i * i % 512, i == 0 ? 64.0 : 20.0 / static_cast<double>(1 + i % 17),
                                       hostile_tokens()[i % hostile_tokens().size()]});
  return strip;
}

inline Table sample_table() {
  Table table{"Rows that were measured", {"recipe", "step", "perplexity", "±", "bits a weight"}, {}};
  table.rows.push_back({"w4a4kv4", "+ GPTQ & prefix_x", fixed(13.9, 2), fixed(0.04, 2), number(4.31)});
  table.rows.push_back({"<b>|x|</b>", "+ 50% $x_1$ {a} ~ \\ ^ #", fixed(1234.5, 2), number(std::nan("")), number(16)});
  table.rows.push_back(
      {"=1+1", "a,b \"c\"", fixed(std::numeric_limits<double>::infinity(), 2), fixed(0.5, 2), number(4.25)});
  return table;
}

inline QuantizationReport sample_quantization(int blocks) {
  QuantizationReport report;
  report.model = "sample <model>";
  report.recipe = "w4a4kv4-static";
  report.precision = "W4A4KV4";
  report.recipe_in_words = "4-bit weights, static scales";
  report.prefix_text = hostile_tokens()[0] + hostile_tokens()[4];
  report.prefix_token_ids = {1, 13};
  report.calibration = "self";
  report.settings = {{"weight.bits", "4"}, {"prefix.tokens", "<auto>"}};
  report.linears = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  report.sites = {"attn.input", "mlp.down_input"};
  for (int b = 0; b < blocks; ++b) {
    std::vector<double>& errors = report.linear_errors.emplace_back();
    std::vector<double>& scales = report.weight_scales.emplace_back();
    std::vector<double>& costs = report.linear_costs.emplace_back();
    for (int l = 0; l < 7; ++l) {
      costs.push_back(b == 11 && l == 6 ? 0.1 : 0.001 * std::exp(std::sin(b * 1.7 + l)));
      errors.push_back(b == 11 && l == 6 ? 0.5 : 0.004 * std::exp(std::sin(b * 1.7 + l)));
      scales.push_back(0.01 + 0.001 * l);
    }
    report.block_errors.push_back(0.01 * (b + 1));
    report.site_scales.push_back({0.02 * (b + 1), std::nan("")});
    report.site_clips.push_back({std::nan(""), 0.8 + 0.01 * b});
    QuantizationReport::Tuning tuning{
        fmt::format("block {}", b), "relative squared error", 0.02 * (b + 1), 0.012 * (b + 1), {}, {}, b == 3};
    for (int e = 1; e <= 10; ++e) {
      tuning.training.push_back(tuning.start * std::exp(-0.06 * e));
      tuning.validation.push_back(tuning.start * std::exp(-0.05 * e));
    }
    report.tuning.push_back(std::move(tuning));
    report.block_seconds.push_back(11 + std::sin(b));
  }
  report.tuning.push_back({"end to end", "negative log-likelihood (nats)", 2.9, 2.8, {2.85, 2.81}, {2.84, 2.8}, false});
  report.steps = {{"outliers and prefix", 6},
                  {"search and rounding", 140, 700'000'000},
                  {"fine-tuning", 900},
                  {"calibration text, reading, writing", 12}};
  report.worst = {{11,
                   "down_proj",
                   0.1,
                   0.5,
                   0.01,
                   0.49,
                   {"blocks.11.linear.down_proj.weight.bits=8", "blocks.11.linear.down_proj.activation.bits=8"},
                   4.3},
                  {3, "o_proj", 0.01, 0.1, 0.1, 0.001, {"blocks.3.linear.o_proj.weight.bits=8"}, 4.28}};
  report.kinds = {
      {"inputs of down_proj", 0.3, {"linear.down_proj.activation.bits=8"}, 4.27},
      {"weights of gate_proj, up_proj", 0.1, {"linear.gate_proj.weight.bits=8", "linear.up_proj.weight.bits=8"}, 6.1},
      {"K and V", 0.01, {"kv.bits=8"}, 4.27}};
  report.proposal = {
      {"inputs of down_proj", "weights of o_proj in block 3"},
      {"linear.down_proj.activation.bits=8", "blocks.3.linear.o_proj.weight.bits=8"},
      4.28,
      "pq quantize sample -o out-mended --recipe w4a4kv4-static --set linear.down_proj.activation.bits=8 "
      "--set blocks.3.linear.o_proj.weight.bits=8"};
  report.bits_per_weight = 4.27;
  report.seconds = 1058;
  report.checkpoint_bytes = 97'000'000;
  report.memory_bytes = 900'000'000;
  report.remaining = RemainingOutliers{0.02, 0.016, 66.2};
  return report;
}

inline Page sample_page(int blocks = 4) {
  Page page{"prefixquant: sample <model> & \xe2\x80\xae",
            "The prefix ‘.\\n’ takes in all outlier tokens; their ratio to the median falls from 2310 to 31.",
            {}};
  page.sections.push_back(
      {"steps",
       "Steps",
       {draw(sample_lines()), draw(sample_pareto()), CopyableTable{sample_table()},
        Code{"pq quantize MODEL -o OUT --set 'blocks.11.linear.down_proj.weight.bits=8'\npq eval OUT"}}});
  page.sections.push_back(
      {"layers", "Which layers hurt", {draw(sample_heat(30)), draw(sample_bars()), draw(sample_strip())}});
  Section section{"blocks", "Block by block", {Text{"Choose a block."}}, {}};
  Picker picker{"Block", {}, blocks > 2 ? 2U : 0U};
  for (int b = 0; b < blocks; ++b) {
    Landscape behind = sample_landscape(2 * b + 1, 128, 1536, false);
    picker.choices.push_back(
        {fmt::format("block {}", b),
         {draw(sample_positions(b)), draw(sample_landscape(2 * b, 128, 1536, true)), draw(behind)}});
  }
  section.pickers.push_back(std::move(picker));
  page.sections.push_back(std::move(section));
  return page;
}

}  // namespace pq::report
