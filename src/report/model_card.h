#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "report/table.h"

namespace pq::report {

/// What a model's README.md says of it to a hub, in the block at its beginning. Only what can be written again as it
/// is: a license that is an identifier, languages that are codes.
struct HubFacts {
  std::string license;                 ///< "apache-2.0"; empty: not said
  std::string license_name;            ///< with license "other"
  std::vector<std::string> languages;  ///< "en"
};
/// Of a README.md that nobody vouches for; empty facts where it has no such block.
HubFacts hub_facts(std::string_view readme);

/// The README.md of a quantized model: https://huggingface.co/docs/hub/model-cards.
struct ModelCard {
  std::string name;        ///< "SmolLM2-135M-w4a4kv4-static"
  std::string base_model;  ///< "org/name" on the hub; empty: not known
  HubFacts base;           ///< what the base model says of itself
  std::string program;     ///< "prefixquant 0.1.0"
  std::string recipe;      ///< "w4a4kv4-static"
  std::string precision;   ///< "W4A4KV4"
  std::string recipe_in_words;
  std::string prefix_text;  ///< empty: no prefix
  std::vector<std::int32_t> prefix_token_ids;
  std::string calibration;
  Table sizes;                        ///< no rows: left out
  Table measured;                     ///< no rows: left out
  std::string command;                ///< that made it; may be empty
  std::vector<std::string> commands;  ///< to use it
};
std::string to_markdown(const ModelCard& card);

}  // namespace pq::report
