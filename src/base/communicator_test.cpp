// Run alone, and by tests/mpi.sh under mpirun: the same tests on every rank.
#include "base/communicator.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/launch.h"
#include "base/parallel_for.h"

namespace pq {
namespace {

constexpr std::size_t part = Communicator::message_elements;
const std::vector<std::size_t> lengths{0, 1, 7, 1000, part - 1, part, part + 1, 2 * part + 3};

// Value i of a rank; small integers, so that float sums are exact in any order.
std::int64_t value(int rank, std::size_t i) {
  return static_cast<std::int64_t>((i * 31 + 17) % 1009) * (rank + 1) - 500;
}

template <typename T>
std::vector<T> values_of(int rank, std::size_t length) {
  std::vector<T> values(length);
  for (std::size_t i = 0; i < length; ++i) values[i] = static_cast<T>(value(rank, i));
  return values;
}

template <typename T>
void expect_sums() {
  Communicator& world = Communicator::world();
  for (const std::size_t length : lengths) {
    auto values = values_of<T>(world.rank(), length);
    world.sum(std::span<T>(values));
    std::vector<T> expected(length);
    for (int rank = 0; rank < world.size(); ++rank) {
      for (std::size_t i = 0; i < length; ++i) expected[i] += static_cast<T>(value(rank, i));
    }
    EXPECT_TRUE(values == expected) << "length " << length;
  }
}

TEST(Communicator, SeesWhatTheLauncherStarted) {
  Communicator& world = Communicator::world();
  EXPECT_EQ(world.size(), launch().size);
  EXPECT_EQ(world.rank(), launch().rank);
  EXPECT_EQ(world.is_root(), world.rank() == 0);
  const char* expected = std::getenv("PQ_TEST_RANKS");
  EXPECT_EQ(world.size(), expected == nullptr ? 1 : std::stoi(expected));
  EXPECT_EQ(world.local_size(), world.size());  // all on this machine
}

TEST(Communicator, Sums) {
  expect_sums<float>();
  expect_sums<double>();
  expect_sums<std::int64_t>();
}

TEST(Communicator, FloatSumsHaveTheSameBitsOnEveryRank) {
  Communicator& world = Communicator::world();
  std::vector<float> values(part + 5);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(static_cast<float>(i + 1) * static_cast<float>(world.rank() + 1));
  }
  world.sum(std::span<float>(values));
  auto of_root = values;
  world.broadcast(std::span<float>(of_root));
  EXPECT_EQ(std::memcmp(values.data(), of_root.data(), values.size() * sizeof(float)), 0);
}

TEST(Communicator, FindsLeastAndGreatest) {
  Communicator& world = Communicator::world();
  for (const std::size_t length : lengths) {
    auto least = values_of<float>(world.rank(), length);
    auto greatest = least;
    std::vector<double> greatest_double(least.begin(), least.end());
    world.min(std::span<float>(least));
    world.max(std::span<float>(greatest));
    world.max(std::span<double>(greatest_double));
    const auto first = values_of<float>(0, length);
    const auto last = values_of<float>(world.size() - 1, length);
    EXPECT_TRUE(least == first) << "length " << length;  // values grow with the rank
    EXPECT_TRUE(greatest == last) << "length " << length;
    EXPECT_TRUE(std::equal(last.begin(), last.end(), greatest_double.begin(), greatest_double.end()));
  }
}

TEST(Communicator, BroadcastsFromTheRoot) {
  Communicator& world = Communicator::world();
  for (const std::size_t length : lengths) {
    auto values = values_of<float>(world.rank(), length);
    world.broadcast(std::span<float>(values));
    EXPECT_TRUE(values == values_of<float>(0, length)) << "length " << length;

    std::vector<std::byte> bytes(world.is_root() ? length : 5);
    for (std::size_t i = 0; i < bytes.size() && world.is_root(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
    world.broadcast(bytes);
    ASSERT_EQ(bytes.size(), length);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < length; ++i) wrong += bytes[i] == static_cast<std::byte>(i * 7) ? 0 : 1;
    EXPECT_EQ(wrong, 0U) << "length " << length;
  }
  world.barrier();
}

TEST(Communicator, SharesCoverEverythingOnce) {
  for (const int size : {1, 2, 3, 7, 16}) {
    for (const std::size_t total : {0UL, 1UL, 5UL, 15UL, 16UL, 17UL, 1000003UL}) {
      std::size_t end = 0;
      std::size_t least = std::numeric_limits<std::size_t>::max();
      std::size_t most = 0;
      for (int rank = 0; rank < size; ++rank) {
        const auto range = Communicator::share(total, rank, size);
        EXPECT_EQ(range.begin, end);
        end = range.end;
        least = std::min(least, range.size());
        most = std::max(most, range.size());
      }
      EXPECT_EQ(end, total);
      EXPECT_LE(most - least, 1U);
    }
  }
}

TEST(Communicator, RanksShareTheProcessors) {
  Communicator& world = Communicator::world();
  set_thread_count(0);
  std::vector<std::int64_t> threads{thread_count()};
  world.sum(std::span<std::int64_t>(threads));
  // tests/mpi.sh leaves ranks unbound: each may use all processors, and takes its part of them, at least one.
  cpu_set_t own;
  ASSERT_EQ(::sched_getaffinity(0, sizeof own, &own), 0);
  EXPECT_EQ(threads[0], world.size() * std::max(1, CPU_COUNT(&own) / world.size()));
  set_thread_count(5);
  EXPECT_EQ(thread_count(), 5);
  set_thread_count(0);
}

}  // namespace
}  // namespace pq

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int code = RUN_ALL_TESTS();
  pq::Communicator::finish();
  return code;
}
