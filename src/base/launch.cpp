#include "base/launch.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace pq {
namespace {

std::optional<int> environment_number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view digits = text;
  int number = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (code != std::errc{} || end != digits.data() + digits.size() || number < 0) return std::nullopt;
  return number;
}

Launch read_launch() {
  struct Names {
    const char* rank;
    const char* size;
  };
  // Open MPI; MPICH, Intel MPI and Slurm's PMI; Slurm's PMIx.
  static constexpr std::array<Names, 3> launchers{Names{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                                  Names{"PMI_RANK", "PMI_SIZE"},
                                                  Names{"PMIX_RANK", "SLURM_STEP_NUM_TASKS"}};
  for (const Names& names : launchers) {
    const auto rank = environment_number(names.rank);
    if (rank) return {*rank, environment_number(names.size).value_or(0)};
  }
  return {};
}

}  // namespace

const Launch& launch() {
  static const Launch instance = read_launch();
  return instance;
}

}  // namespace pq
