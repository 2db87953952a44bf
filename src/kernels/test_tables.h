#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu_features.h"
#include "kernels/select.h"

// For tests that run once for every kernel table of the build:
//   using SomeKernel = TableTest;
//   TEST_P(SomeKernel, does_this) { table().rope(...); }
//   PQ_FOR_EVERY_TABLE(SomeKernel);

namespace pq::kernels {

/// The table that defines what the others compute.
inline const KernelTable& definition() { return *kernel_tables().front(); }

/// A table that this processor cannot run is skipped, visibly.
class TableTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  void SetUp() override {
    const std::string missing = missing_feature(features_of(table()));
    if (!missing.empty()) GTEST_SKIP() << "this processor has no " << missing;
  }
  static const KernelTable& table() { return *GetParam(); }
};

inline std::string table_test_name(const testing::TestParamInfo<const KernelTable*>& info) {
  std::string name = info.param->name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

#define PQ_FOR_EVERY_TABLE(suite)                                                                            \
  INSTANTIATE_TEST_SUITE_P(tables, suite, testing::ValuesIn(kernel_tables().begin(), kernel_tables().end()), \
                           table_test_name)

/// Values at an address that is a multiple of 64 bytes plus `offset` values, with a margin of marks on both sides that
/// must stay as they are.
template <typename T>
class Guarded {
 public:
  explicit Guarded(std::int64_t size, std::int64_t offset = 0)
      : size_(size), bytes_(static_cast<std::size_t>(size) * sizeof(T) + 4 * margin, mark) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data()) + margin;
    begin_ = bytes_.data() + margin + (64 - address % 64) % 64 + static_cast<std::size_t>(offset) * sizeof(T);
    std::fill_n(data(), size, T{});
  }
  explicit Guarded(const std::vector<T>& values, std::int64_t offset = 0)
      : Guarded(static_cast<std::int64_t>(values.size()), offset) {
    if (!values.empty()) std::memcpy(begin_, values.data(), values.size() * sizeof(T));
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return reinterpret_cast<T*>(begin_); }
  T& operator[](std::int64_t i) { return data()[i]; }
  std::int64_t size() const { return size_; }
  std::vector<T> values() { return std::vector<T>(data(), data() + size_); }
  bool untouched_around() const {
    const unsigned char* end = begin_ + static_cast<std::size_t>(size_) * sizeof(T);
    const auto marked = [](unsigned char c) { return c == mark; };
    return std::all_of(bytes_.data(), static_cast<const unsigned char*>(begin_), marked) &&
           std::all_of(end, bytes_.data() + bytes_.size(), marked);
  }

 private:
  static constexpr std::size_t margin = 128;
  static constexpr unsigned char mark = 0xa5;
  std::int64_t size_;
  std::vector<unsigned char> bytes_;
  unsigned char* begin_;
};

/// Those that this processor runs, without the definition.
inline std::vector<const KernelTable*> vector_tables() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : kernel_tables()) {
    if (table != &definition() && supported(*table)) tables.push_back(table);
  }
  return tables;
}

/// Memory that starts at a multiple of 64 bytes.
template <typename T>
class Aligned {
 public:
  explicit Aligned(std::size_t count) : bytes_(count * sizeof(T) + 64), count_(count) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    data_ = reinterpret_cast<T*>(bytes_.data() + (64 - address % 64) % 64);
  }
  // A copy would point into the original; moving keeps the memory where it is.
  Aligned(Aligned&&) noexcept = default;
  Aligned& operator=(Aligned&&) noexcept = default;
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;

  T* data() { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  std::size_t size() const { return count_; }

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t count_;
  T* data_;
};

/// Normally distributed, with a few values a hundred times as large, as activations are.
inline std::vector<float> activations_like(std::int64_t n, unsigned seed, float spread = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) value = normal(random);
  for (std::size_t i = 7; i < x.size(); i += 211) x[i] *= 100;
  return x;
}

/// 1 .. 70, so that every remainder of every vector length occurs, and sizes of real rows.
inline std::vector<std::int64_t> row_lengths() {
  std::vector<std::int64_t> lengths(70);
  for (std::size_t i = 0; i < lengths.size(); ++i) lengths[i] = static_cast<std::int64_t>(i) + 1;
  lengths.insert(lengths.end(), {96, 127, 576, 1000, 1536, 2048, 4864, 8192});
  return lengths;
}

}  // namespace pq::kernels
