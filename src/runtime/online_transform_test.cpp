#include "runtime/online_transform.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "kernels/test_tables.h"
#include "numerics/transform_error.h"
#include "numerics/transform_for_test.h"

namespace pq::runtime {
namespace {

using kernels::activations_like;
using kernels::Guarded;
using kernels::kernel_tables;
using kernels::KernelTable;
using kernels::table_test_name;
using OnlineTransformKernels = kernels::TableTest;

/// What the kernels make of vectors [size].
std::vector<float> transformed(const KernelTable& table, const SiteTransform& transform, const std::vector<float>& x,
                               std::int64_t size) {
  Guarded<float> vectors(x);
  Guarded<float> scratch(size);
  OnlineTransform(transform, size)
      .apply(vectors.data(), static_cast<std::int64_t>(x.size()) / size, table,
             reinterpret_cast<std::byte*>(scratch.data()));
  EXPECT_TRUE(vectors.untouched_around() && scratch.untouched_around());
  return vectors.values();
}

/// Largest error as a share of what float32 may lose against `definition`.
double worst(const SiteTransform& definition, const std::vector<float>& x, const std::vector<float>& result,
             std::int64_t size) {
  std::vector<double> exact(x.begin(), x.end());
  apply_transform(definition, exact, size);
  double largest = 0;
  const auto n = static_cast<std::size_t>(size);
  for (std::size_t first = 0; first < x.size(); first += n) {
    RowBound row{{}, std::vector<double>(n, 0.0)};
    for (std::size_t i = first; i < first + n; ++i) row.magnitude.push_back(std::fabs(static_cast<double>(x[i])));
    row = transformed_bound(definition, std::move(row));
    for (std::size_t i = 0; i < n; ++i) {
      largest = std::max(largest, std::fabs(static_cast<double>(result[first + i]) - exact[first + i]) /
                                      std::max(row.error[i], 1e-37));
    }
  }
  return largest;
}

TEST_P(OnlineTransformKernels, agree_with_the_definition) {
  for (const std::int64_t size : {12, 64, 88, 128, 704}) {
    std::vector<SiteTransform> transforms{every_step(size)};
    for (const TransformStep& step : every_step(size).steps) transforms.push_back({{step}});
    for (const SiteTransform& transform : transforms) {
      const std::vector<float> x = activations_like(3 * size, static_cast<unsigned>(size));
      const std::vector<float> result = transformed(table(), transform, x, size);
      EXPECT_LE(worst(transform, x, result, size), 1.0) << size << " " << step_name(transform.steps[0]);
    }
  }
}

TEST_P(OnlineTransformKernels, would_be_caught_with_another_transform) {
  constexpr std::int64_t size = 88;
  const std::vector<float> x = activations_like(size, 1);
  for (const TransformStep& step : every_step(size).steps) {
    if (std::holds_alternative<HadamardStep>(step)) continue;
    const SiteTransform definition{{step}};
    SiteTransform broken = definition;
    if (auto* gather = std::get_if<GatherStep>(&broken.steps[0])) {
      std::swap(gather->source[0], gather->source[1]);
    } else if (auto* multiply = std::get_if<MultiplyStep>(&broken.steps[0])) {
      multiply->factors[5] *= 1.00001F;
    } else if (auto* diagonal = std::get_if<BlockDiagonalStep>(&broken.steps[0])) {
      std::swap(diagonal->matrices[1], diagonal->matrices[static_cast<std::size_t>(diagonal->block)]);
    } else if (auto* kronecker = std::get_if<KroneckerStep>(&broken.steps[0])) {
      std::swap(kronecker->left_matrix[1], kronecker->left_matrix[4]);
    }
    EXPECT_GT(worst(definition, x, transformed(table(), broken, x, size), size), 10.0) << step_name(step);
  }
  // A Paley matrix is not symmetric.
  const SiteTransform hadamard{{HadamardStep{size}}};
  std::vector<float> undone = transformed(table(), hadamard, x, size);
  undone = transformed(table(), hadamard, undone, size);
  double moved = 0;
  for (std::size_t i = 0; i < x.size(); ++i) moved = std::max(moved, std::fabs(static_cast<double>(undone[i] - x[i])));
  EXPECT_GT(moved, 0.1);
}

PQ_FOR_EVERY_TABLE(OnlineTransformKernels);

TEST(OnlineTransform, NothingIsDoneWithoutSteps) {
  const OnlineTransform none({}, 8);
  EXPECT_TRUE(none.empty());
  EXPECT_TRUE(none.definition().empty());
  float row[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  none.apply(row, 1, *kernel_tables().front(), nullptr);
  EXPECT_EQ(row[7], 8.0F);
}

TEST(OnlineTransform, WhatDoesNotFitIsRefused) {
  EXPECT_THROW(OnlineTransform(every_step(12), 16), InputError);
  EXPECT_THROW(OnlineTransform({{MultiplyStep{{1, 0}}}}, 2), InputError);
}

}  // namespace
}  // namespace pq::runtime
