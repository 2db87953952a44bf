#include "tasks/plan.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "base/index.h"

namespace pq::tasks {
namespace {

constexpr std::int64_t most_family_tokens = 1 << 16;

/// Inputs that are equal, and the requests that have them.
struct Input {
  std::shared_ptr<const std::vector<std::int32_t>> shared;
  std::int64_t wanted = 0;
  std::vector<PlannedFamily::Scored> scored;

  const std::vector<std::int32_t>& tokens() const { return *shared; }
};

/// The inputs of a group, each once. Equal ones stand next to each other: they are the choices of one document.
std::vector<Input> distinct_inputs(const RequestGroup& group) {
  std::vector<Input> inputs;
  for (std::size_t i = 0; i < group.requests.size(); ++i) {
    const Request& request = group.requests[i];
    if (inputs.empty() || inputs.back().tokens() != *request.input) inputs.push_back({request.input, 0, {}});
    Input& input = inputs.back();
    input.wanted = std::max(input.wanted, static_cast<std::int64_t>(request.targets.size()));
    input.scored.push_back({group.first + i, 0, request.targets});
  }
  return inputs;
}

std::size_t common_length(std::span<const Input> inputs) {
  std::size_t length = inputs[0].tokens().size();
  for (const Input& input : inputs.subspan(1)) {
    const auto [end, other] =
        std::mismatch(inputs[0].tokens().begin(), inputs[0].tokens().begin() + static_cast<std::ptrdiff_t>(length),
                      input.tokens().begin(), input.tokens().end());
    length = static_cast<std::size_t>(end - inputs[0].tokens().begin());
  }
  return length;
}

PlannedFamily family_of(std::span<Input> inputs, std::size_t common) {
  PlannedFamily planned;
  const auto stem_end = static_cast<std::ptrdiff_t>(common);
  planned.family.stem.assign(inputs[0].tokens().begin(), inputs[0].tokens().begin() + stem_end);
  for (Input& input : inputs) {
    for (PlannedFamily::Scored& scored : input.scored) {
      scored.branch = planned.family.branches.size();
      planned.scored.push_back(std::move(scored));
    }
    planned.family.branches.push_back({{input.tokens().begin() + stem_end, input.tokens().end()}, input.wanted});
  }
  return planned;
}

}  // namespace

std::vector<PlannedFamily> plan_families(std::span<const RequestGroup> groups, Together together) {
  std::vector<PlannedFamily> families;
  for (const RequestGroup& group : groups) {
    std::vector<Input> inputs = distinct_inputs(group);
    const std::size_t common = inputs.empty() ? 0 : common_length(inputs);
    if (together != Together::stems || common == 0) {
      for (Input& input : inputs) families.push_back(family_of({&input, 1}, input.tokens().size()));
      continue;
    }
    for (std::size_t begin = 0; begin < inputs.size();) {
      std::size_t end = begin;
      for (std::int64_t tokens = 0; end < inputs.size() && (end == begin || tokens < most_family_tokens); ++end) {
        tokens += static_cast<std::int64_t>(inputs[end].tokens().size() - common);
      }
      const std::span part = std::span(inputs).subspan(begin, end - begin);
      families.push_back(family_of(part, common_length(part)));
      begin = end;
    }
  }
  return families;
}

std::vector<std::vector<std::size_t>> plan_batches(std::span<const PlannedFamily> families, Together together,
                                                   std::int64_t tokens) {
  std::vector<std::size_t> order(families.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return families[a].family.longest() > families[b].family.longest();
  });
  std::vector<std::vector<std::size_t>> batches;
  std::int64_t longest = 0;  // of the last batch
  for (const std::size_t family : order) {
    // All members take the memory of the longest.
    const bool full = !batches.empty() && longest * static_cast<std::int64_t>(batches.back().size() + 1) > tokens;
    if (batches.empty() || full || together == Together::alone) {
      batches.emplace_back();
      longest = families[family].family.longest();
    }
    batches.back().push_back(family);
  }
  return batches;
}

}  // namespace pq::tasks
