#include "kernels/select.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <sstream>
#include <string>

#include "base/error.h"
#include "kernels/test_tables.h"

namespace pq::kernels {
namespace {

using testing::HasSubstr;

/// Sets PQ_FORCE_ISA for one test.
class Forced {
 public:
  explicit Forced(const char* name) {
    if (const char* before = std::getenv("PQ_FORCE_ISA")) before_ = before;
    setenv("PQ_FORCE_ISA", name, 1);
  }
  ~Forced() { before_.empty() ? unsetenv("PQ_FORCE_ISA") : setenv("PQ_FORCE_ISA", before_.c_str(), 1); }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;

 private:
  std::string before_;
};

std::string message_of(std::string_view name, FeatureTest has) {
  try {
    select_kernels(name, "PQ_FORCE_ISA", has);
  } catch (const InputError& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  return {};
}

bool nothing(std::string_view) { return false; }
bool everything(std::string_view) { return true; }

TEST(Select, lists_the_scalar_table_first_and_runs_it_everywhere) {
  ASSERT_GE(kernel_tables().size(), 2U);
  EXPECT_STREQ(kernel_tables().front()->name, "scalar");
  EXPECT_EQ(features_of(*kernel_tables().front()), "");
  EXPECT_TRUE(supported(*kernel_tables().front()));
  EXPECT_EQ(&select_kernels("", "test", nothing), kernel_tables().front());
  EXPECT_EQ(&select_kernels("", "test", everything), kernel_tables().back());
}

TEST(Select, takes_the_best_that_the_processor_supports) {
  const KernelTable* best = nullptr;
  for (const KernelTable* table : kernel_tables()) best = supported(*table) ? table : best;
  EXPECT_EQ(&select_kernels("", "test"), best);
}

TEST(Select, asks_only_for_features_that_it_knows) {
  for (const KernelTable* table : kernel_tables()) {
    std::istringstream names{std::string(features_of(*table))};
    for (std::string name; names >> name;) EXPECT_TRUE(known_feature(name)) << name << " of " << table->name;
  }
  EXPECT_FALSE(known_feature("avx1024"));
  EXPECT_FALSE(has_feature("avx1024"));
}

TEST(Select, needs_every_feature_of_a_row) {
  for (const KernelTable* table : kernel_tables()) {
    std::istringstream names{std::string(features_of(*table))};
    for (std::string name; names >> name;) {
      static std::string without;
      without = name;
      const std::string message = message_of(table->name, [](std::string_view feature) { return feature != without; });
      EXPECT_THAT(message,
                  HasSubstr(fmt::format("PQ_FORCE_ISA: this processor has no {}, which {} needs", name, table->name)));
      EXPECT_THAT(message, HasSubstr("; it can run: scalar"));
    }
  }
}

TEST(Select, obeys_the_environment) {
  for (const KernelTable* table : kernel_tables()) {
    if (!supported(*table)) continue;
    const Forced forced(table->name);
    EXPECT_EQ(&select_kernels(), table) << table->name;
  }
  const Forced forced("");
  EXPECT_EQ(&select_kernels(), &select_kernels("", "test"));
}

TEST(Select, refuses_an_unknown_name) {
  const Forced forced("mmx");
  EXPECT_THROW(select_kernels(), InputError);
  EXPECT_EQ(message_of("mmx", nothing),
            "PQ_FORCE_ISA: this program has no kernels named 'mmx'; this processor can run: scalar");
}

TEST(Select, refuses_features_of_a_stranger) {
  const KernelTable stranger = definition();
  EXPECT_THROW(features_of(stranger), InputError);
}

// With objects_test.sh, which looks into the object files, this is the proof that a table runs its own code.
TEST(Select, tables_share_no_function_and_no_name) {
  std::set<std::string> names;
  std::set<const void*> functions;
  std::size_t count = 0;
  for (const KernelTable* table : kernel_tables()) {
    names.insert(table->name);
    const void* entries[] = {
        reinterpret_cast<const void*>(table->int_gemm),      reinterpret_cast<const void*>(table->float_gemm),
        reinterpret_cast<const void*>(table->attend),        reinterpret_cast<const void*>(table->rms_norm),
        reinterpret_cast<const void*>(table->norm_quantize), reinterpret_cast<const void*>(table->quantize_row),
        reinterpret_cast<const void*>(table->min_max),       reinterpret_cast<const void*>(table->rope),
        reinterpret_cast<const void*>(table->hadamard),      reinterpret_cast<const void*>(table->f16_to_float),
        reinterpret_cast<const void*>(table->bf16_to_float), reinterpret_cast<const void*>(table->float_to_bf16),
        reinterpret_cast<const void*>(table->int8_peak),     reinterpret_cast<const void*>(table->f32_peak),
        reinterpret_cast<const void*>(table->read_memory),   reinterpret_cast<const void*>(table->multiply_rows)};
    for (const void* entry : entries) {
      EXPECT_NE(entry, nullptr) << table->name;
      functions.insert(entry);
      ++count;
    }
  }
  EXPECT_EQ(names.size(), kernel_tables().size());
  EXPECT_EQ(functions.size(), count);
}

}  // namespace
}  // namespace pq::kernels
