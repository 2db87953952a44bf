#include "exchange/plain_prefix.h"

#include <fmt/format.h>

#include <cmath>
#include <span>

#include "base/error.h"
#include "base/half.h"
#include "base/index.h"
#include "base/random.h"
#include "numerics/hadamard.h"
#include "numerics/site_transform.h"

namespace pq::exchange {
namespace {

/// T^-T of rows of `size` values, row-major: row i is what becomes of the i-th unit row.
std::vector<double> inverse_transposed_matrix(const SiteTransform& transform, std::int64_t size) {
  std::vector<double> matrix(index(size * size), 0.0);
  for (std::int64_t i = 0; i < size; ++i) matrix[index(i * size + i)] = 1;
  transform_weights(transform, matrix, size);
  return matrix;
}

/// Every row x <- x T^-1.
void undo_transform(const SiteTransform& transform, std::span<double> rows, std::int64_t size) {
  const std::vector<double> inverse_transposed = inverse_transposed_matrix(transform, size);
  std::vector<double> out(index(size));
  for (std::size_t begin = 0; begin < rows.size(); begin += index(size)) {
    const std::span<double> row = rows.subspan(begin, index(size));
    for (std::size_t j = 0; j < row.size(); ++j) {
      double sum = 0;
      for (std::size_t i = 0; i < row.size(); ++i) sum += row[i] * inverse_transposed[j * row.size() + i];
      out[j] = sum;
    }
    std::copy(out.begin(), out.end(), row.begin());
  }
}

std::vector<double> doubles(const std::vector<std::uint16_t>& halves) {
  std::vector<double> values(halves.size());
  for (std::size_t i = 0; i < halves.size(); ++i) values[i] = static_cast<double>(f16_to_float(halves[i]));
  return values;
}

/// V R2 -> V: R2 is H / sqrt(head_dim), behind the seed's signs where the recipe has them (quant/rotate).
void undo_r2(std::span<double> value, const ModelSpec& spec, const Recipe& recipe, std::int64_t length) {
  const HadamardPlan plan = plan_hadamard(spec.head_dim);
  Random random(recipe.seed, "rotation R2");
  for (std::int64_t head = 0; head < spec.kv_head_count; ++head) {
    std::vector<double> signs(index(spec.head_dim), 1.0);
    if (recipe.rotate.signs) {
      for (double& sign : signs) sign = random.sign();
    }
    for (std::int64_t position = 0; position < length; ++position) {
      const std::span<double> row =
          value.subspan(index((head * length + position) * spec.head_dim), index(spec.head_dim));
      apply_hadamard_transposed(plan, row);
      for (std::size_t i = 0; i < row.size(); ++i) row[i] *= signs[i];
    }
  }
}

std::vector<std::uint16_t> rounded(const std::vector<double>& values, std::int64_t block) {
  std::vector<std::uint16_t> halves;
  halves.reserve(values.size());
  for (const double value : values) {
    halves.push_back(float_to_f16(static_cast<float>(value)));
    if (std::isfinite(f16_to_float(halves.back()))) continue;
    throw UnsupportedError(fmt::format("the prefix of block {}", block),
                           fmt::format("reaches {:.6g} without its rotation, beyond the range of binary16", value),
                           "llama.cpp's 16-bit cache cannot hold it");
  }
  return halves;
}

}  // namespace

PlainKv plain_prefix(const Prefix::BlockKv& kv, const QuantizedBlock& parameters, const ModelSpec& spec,
                     const Recipe& recipe, std::int64_t length, ValueBasis basis) {
  PlainKv plain{doubles(kv.key), doubles(kv.value)};
  if (!parameters.key_mean.empty()) {
    for (std::size_t i = 0; i < plain.key.size(); ++i) {
      const std::size_t channel = i % index(spec.head_dim);
      const std::size_t head = i / index(length * spec.head_dim);
      plain.key[i] += static_cast<double>(parameters.key_mean[head * index(spec.head_dim) + channel]);
    }
  }
  const std::int64_t matrix = spec.head_dim * spec.head_dim;
  for (std::int64_t head = 0; head < spec.kv_head_count && !parameters.key_basis.empty(); ++head) {
    const auto first = parameters.key_basis.begin() + head * matrix;
    undo_transform({{BlockDiagonalStep{spec.head_dim, 1, {first, first + matrix}}}},
                   std::span(plain.key).subspan(index(head * length * spec.head_dim), index(length * spec.head_dim)),
                   spec.head_dim);
  }
  const SiteTransform& transform = parameters.transforms[Site::k_cache];
  if (!transform.empty()) undo_transform(transform, plain.key, spec.head_dim);
  if (basis == ValueBasis::model && recipe.rotate.r2) undo_r2(plain.value, spec, recipe, length);
  return plain;
}

Prefix plain_prefix(const io::QuantizedCheckpoint& checkpoint, ValueBasis basis) {
  const Prefix& prefix = checkpoint.prefix();
  Prefix plain{prefix.length, prefix.token_ids, {}};
  for (std::size_t block = 0; block < prefix.blocks.size(); ++block) {
    const auto number = static_cast<std::int64_t>(block);
    const PlainKv kv = plain_prefix(prefix.blocks[block], checkpoint.block_without_weights(number), checkpoint.spec(),
                                    checkpoint.recipe(), prefix.length, basis);
    plain.blocks.push_back({rounded(kv.key, number), rounded(kv.value, number)});
  }
  return plain;
}

}  // namespace pq::exchange
