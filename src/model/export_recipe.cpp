#include "model/export_recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "base/suggest.h"
#include "model/block_layout.h"
#include "model/site_transform.h"

namespace pq {
namespace {

struct GroupRow {
  std::int64_t group;
  std::string_view recipe;
};

/// Recipes of a program, the first whose groups divide every layer's inputs is taken.
struct ProgramRow {
  std::string_view name;
  std::vector<GroupRow> groups;
  std::string_view activations;
  std::string_view cache;
};

const std::vector<ProgramRow>& programs() {
  static const std::vector<ProgramRow> rows{
      {"llama.cpp",
       {{32, "w4a16g32-gguf"}},
       "llama.cpp rounds them to 8 bits, in blocks of 32, by itself",
       "its flags -ctk and -ctv choose one"},
      {"vllm",
       {{128, "w4a16g128-ct"}, {64, "w4a16g64-ct"}, {32, "w4a16g32-ct"}},
       "w8a8-ct is the recipe for 8-bit ones",
       "its flag --kv-cache-dtype chooses one"},
  };
  return rows;
}

bool divides(const ModelSpec& spec, std::int64_t group) {
  return std::all_of(all_linears.begin(), all_linears.end(),
                     [&](LinearId id) { return linear_shape(spec, id).in_features % group == 0; });
}

}  // namespace

std::vector<std::string> export_programs() {
  std::vector<std::string> names;
  for (const ProgramRow& row : programs()) names.emplace_back(row.name);
  return names;
}

ExportRecipe export_recipe(std::string_view program, const ModelSpec& spec, std::string_view where) {
  const auto row = std::find_if(programs().begin(), programs().end(), [&](const auto& r) { return r.name == program; });
  if (row == programs().end()) {
    throw InputError(fmt::format("--for {}", program), "there is no recipe for this program",
                     did_you_mean(program, export_programs()));
  }
  const auto found =
      std::find_if(row->groups.begin(), row->groups.end(), [&](const GroupRow& r) { return divides(spec, r.group); });
  if (found == row->groups.end()) {
    throw UnsupportedError(where, fmt::format("groups of {} divide not every layer's inputs", row->groups.back().group),
                           fmt::format("{} cannot hold such a model", program));
  }
  ExportRecipe choice{std::string(found->recipe), {}, {}};
  choice.given_up.push_back(fmt::format("quantized activations: {}", row->activations));
  choice.given_up.push_back(fmt::format("a quantized KV cache with static scales: {}", row->cache));
  choice.given_up.emplace_back("the rotations that are computed online (R3, R4, over heads)");
  if (residual_rotation(spec, ResidualRotation::automatic) != ResidualRotation::fused) {
    choice.settings.emplace_back("rotate.r1=none");
    choice.given_up.emplace_back(
        "the rotation of the residual stream (R1), which this family's norms do not let into the weights");
  }
  if (found != row->groups.begin()) {
    choice.given_up.push_back(
        fmt::format("groups of {}, which do not divide every layer's inputs: groups of {} take their place",
                    row->groups.front().group, found->group));
  }
  return choice;
}

}  // namespace pq
