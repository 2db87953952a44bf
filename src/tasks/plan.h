#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/language_model.h"
#include "tasks/request.h"

namespace pq::tasks {

/// Requests of one document, or of documents whose contexts begin alike (the questions behind a subject's examples).
struct RequestGroup {
  std::vector<Request> requests;
  std::size_t first;  ///< number of its first request, among all
};

/// What the model runs at once.
struct PlannedFamily {
  SequenceFamily family;
  struct Scored {
    std::size_t request;  ///< among all
    std::size_t branch;
    std::vector<std::int32_t> targets;
  };
  std::vector<Scored> scored;
};

/// How sequences may share a run.
enum class Together {
  alone,  ///< a dynamic scale is that of a run, so that every sequence has one of its own
  equal,  ///< sequences beside each other
  stems,  ///< and tokens at the beginning that several have in common are computed once
};

/// Groups as families: inputs that are equal become one branch, tokens at the beginning that all have in common the
/// stem (as far as tokens go, not characters: every request gets the values of its own tokens).
std::vector<PlannedFamily> plan_families(std::span<const RequestGroup> groups, Together together);

/// Families that run together, in batches of about `tokens` (LanguageModel::family_tokens), the longest first. The
/// batches follow from the families alone: neither threads nor processes change what runs beside what.
std::vector<std::vector<std::size_t>> plan_batches(std::span<const PlannedFamily> families, Together together,
                                                   std::int64_t tokens);

}  // namespace pq::tasks
