#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli_for_test.h"
#include "kernels/select.h"
#include "measure/limits.h"
#include "measure/model_speed.h"
#include "measure/shapes.h"
#include "measure/speed_report.h"
#include "measure/speed_tests.h"

namespace pq::cli {
namespace {

using kernels::MachineLimits;
using testing::AllOf;
using testing::DoubleEq;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;

class BenchProgram : public Cli {
 protected:
  Outcome bench(std::vector<std::string> words, const char* isa = nullptr) const {
    words.insert(words.begin(), "bench");
    if (isa != nullptr) ::setenv("PQ_FORCE_ISA", isa, 1);
    Outcome outcome = run(words);
    if (isa != nullptr) ::unsetenv("PQ_FORCE_ISA");
    return outcome;
  }
};

TEST(BenchTests, NamesSayWhatIsTimed) {
  const auto tests = parse_tests({"pp512", "tg128x8@4096", "tg1@0", "pp512", "paper", "pp2048"});
  std::vector<std::string> names;
  for (const BenchTest& test : tests) names.push_back(test.name);
  EXPECT_THAT(names, ElementsAre("pp512", "tg128x8@4096", "tg1@0", "pp2048", "tg256@2048"));
  EXPECT_EQ(tests[0].kind, BenchTest::Kind::prefill);
  EXPECT_EQ(tests[0].batch, 1);
  EXPECT_EQ(tests[0].depth, 0);
  EXPECT_EQ(tests[1].kind, BenchTest::Kind::generate);
  EXPECT_EQ(tests[1].tokens, 128);
  EXPECT_EQ(tests[1].batch, 8);
  EXPECT_EQ(tests[1].depth, 4096);
  EXPECT_EQ(tests[1].capacity(), 4224);
  EXPECT_EQ(parse_tests(default_tests()).size(), 9U);  // the paper's pp2048 is there already
  for (const char* bad : {"", "pp", "tg0", "pp-1", "pp512x", "pp512x0", "pp512x65", "tg128@", "tg128@-1", "tg128 ",
                          "tg128@1x2", "gg128", "pp99999999999999999999", "tg1000001"}) {
    EXPECT_THAT([&] { parse_tests({bad}); },
                ThrowsMessage<InputError>(AllOf(StartsWith(fmt::format("--test {}: is not a test;", bad)),
                                                HasSubstr("for example tg128x8@4096"))))
        << bad;
  }
}

TEST(BenchShapes, AreThePublishedOnes) {
  // Parameters without the embedding: Llama-3.2-1B 1.236e9 - 128256 * 2048, SmolLM-135M 134.5e6 - 49152 * 576,
  // TinyLlama 1.100e9 - 2 * 32000 * 2048, Llama-3-8B 8.030e9 - 2 * 128256 * 4096 (norms are left out here too).
  const std::vector<std::pair<std::string, std::int64_t>> linears{{"llama-3.2-1b", 973078528},
                                                                  {"smollm-135m", 106168320},
                                                                  {"tinyllama-1.1b", 968884224},
                                                                  {"llama-3-8b", 6979321856}};
  EXPECT_EQ(linears.size(), shape_names().size());
  for (const auto& [name, parameters] : linears) {
    const ModelSpec spec = named_shape(name);
    EXPECT_EQ(spec.block_parameters() * spec.block_count, parameters) << name;
    EXPECT_EQ(spec.head_count % spec.kv_head_count, 0) << name;
  }
}

TEST(BenchLimits, TheTighterBoundBinds) {
  const MachineLimits limits{
      .int8_ops = 2000, .int8_matrix_ops = 0, .f32_ops = 500, .bf16_ops = 900, .bf16_matrix_ops = 0, .read_bytes = 50};
  const auto expect = [&](Work work, const MachineLimits& of, std::string_view limit, double seconds) {
    const Bound bound = bound_of(work, of);
    EXPECT_EQ(bound.limit, limit);
    EXPECT_DOUBLE_EQ(bound.seconds, seconds);
  };
  expect({Products::bytes, 4000, false, 50}, limits, "int8 peak", 2);
  expect({Products::bytes, 4000, false, 150}, limits, "read bandwidth", 3);
  expect({Products::wide, 4000, false, 0}, limits, "int8 peak", 4);
  expect({Products::floats, 900, false, 0}, limits, "bf16 peak", 1);
  MachineLimits other = limits;
  other.bf16_matrix_ops = 4500;
  expect({Products::floats, 900, false, 0}, other, "bf16 matrix peak", 0.2);
  expect({Products::floats, 900, true, 0}, other, "bf16 peak", 1);
  expect({Products::wide, 4500, false, 0}, other, "bf16 matrix peak", 1);
  other.bf16_matrix_ops = 0;
  other.int8_matrix_ops = 8000;
  other.bf16_ops = 0;
  expect({Products::bytes, 4000, false, 0}, other, "int8 matrix peak", 0.5);
  expect({Products::bytes, 4000, true, 0}, other, "int8 peak", 2);
  expect({Products::wide, 4000, false, 0}, other, "int8 matrix peak", 1);
  expect({Products::floats, 500, false, 0}, other, "f32 peak", 1);
}

TEST(BenchLimits, EveryKernelTableHasThem) {
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    const kernels::LimitProbe probe(*table, std::size_t{8} << 20);
    const MachineLimits limits = probe.measure(2);
    EXPECT_GT(limits.int8_ops, 1e8) << table->name;
    EXPECT_GT(limits.f32_ops, 1e8) << table->name;
    EXPECT_GT(limits.read_bytes, 1e8) << table->name;
    EXPECT_EQ(limits.int8_matrix_ops > 0, table->int8_matrix_peak != nullptr) << table->name;
    EXPECT_GT(limits_text(limits).size(), 20U);
    EXPECT_TRUE(limits_json(limits)["int8_ops_per_second"].is_number());
    EXPECT_EQ(limits_json(limits)["bf16_ops_per_second"].is_null(), table->bf16_peak == nullptr) << table->name;
  }
}

// A loop that the compiler folded would take the same time for any number of rounds.
TEST(BenchLimits, PeaksDoTheirRounds) {
  const auto seconds = [](double (*peak)(std::int64_t) noexcept, std::int64_t rounds) {
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
      const auto start = std::chrono::steady_clock::now();
      EXPECT_EQ(peak(rounds), peak(1) * static_cast<double>(rounds));
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    for (auto* peak :
         {table->int8_peak, table->int8_matrix_peak, table->f32_peak, table->bf16_peak, table->bf16_matrix_peak}) {
      if (peak == nullptr) continue;
      EXPECT_GT(seconds(peak, 80'000), 4 * seconds(peak, 8'000)) << table->name;
    }
  }
}

BenchRow row_of(const std::string& recipe, bool quantized, std::vector<double> rates) {
  BenchRow row{.shape = "s", .recipe = recipe, .test = "pp1", .group = "g", .quantized = quantized};
  row.limit = "int8 peak";
  row.limits_per_second.assign(rates.size(), 100.0);
  row.tokens_per_second = std::move(rates);
  return row;
}

TEST(BenchReport, MediansSharesAndPairedRatios) {
  // The machine was at half its speed in the third turn: ratios and medians are not misled.
  BenchReport report{.kernels = "scalar", .processor = "p", .threads = 1, .repetitions = 3};
  report.rows = {row_of("bf16", false, {10, 10, 5}), row_of("w4a8kv4-static", true, {20, 21, 10}),
                 row_of("w4a8kv4-dynamic", true, {20, 20, 10}), row_of("w4a4kv4-static", true, {22, 20, 10})};
  report.rows[1].limits_per_second = {40, 40, 20};
  EXPECT_DOUBLE_EQ(report.rows[1].median(), 20);
  EXPECT_DOUBLE_EQ(report.rows[1].limit_share(), 0.5);
  EXPECT_DOUBLE_EQ(report.rows[1].spread(), 11.0 / 20);
  std::vector<std::pair<std::string, double>> found;
  for (const BenchRatio& ratio : ratios_of(report.rows))
    found.emplace_back(ratio.recipe + "/" + ratio.over, ratio.ratio);
  EXPECT_THAT(found, ElementsAre(testing::Pair("w4a8kv4-static/bf16", DoubleEq(2.0)),
                                 testing::Pair("w4a8kv4-static/w4a8kv4-dynamic", DoubleEq(1.0)),
                                 testing::Pair("w4a8kv4-dynamic/bf16", DoubleEq(2.0)),
                                 testing::Pair("w4a4kv4-static/bf16", DoubleEq(2.0)),
                                 testing::Pair("w4a4kv4-static/w4a8kv4-static", DoubleEq(1.0))));
  EXPECT_FALSE(report_json(report)["rows"][1].contains("vector_limit_share"));
  report.rows[1].vector_limits_per_second = {25, 25, 12.5};
  EXPECT_DOUBLE_EQ(report_json(report)["rows"][1]["vector_limit_share"].get<double>(), 0.8);
  EXPECT_THAT(report_text(report), HasSubstr("80.0%"));
  report.rows[2].group = "another";
  EXPECT_EQ(ratios_of(report.rows).size(), 3U);
  EXPECT_THAT(report_text(report), AllOf(HasSubstr("share of limit"), HasSubstr("50.0%"), HasSubstr("2.00x")));
}

TEST(BenchModel, WorkIsWhatTheShapeAsksFor) {
  ModelSpec spec = named_shape("smollm-135m");
  spec.block_count = 2;
  spec.vocab_size = 64;
  const auto model = runtime::Model::random(spec, named_recipe("w4a8kv4-static"), 1, {});
  BenchModel bench_model(model, 64);
  const auto tests = parse_tests({"pp16x2", "tg4@8", "tg4x2@8", "tg3"});
  const double parameters = 2.0 * 2 * static_cast<double>(spec.block_parameters());
  const auto weights = static_cast<double>(model->weight_bytes_per_token());
  const auto kv = static_cast<double>(model->kv_bytes_per_token());
  EXPECT_DOUBLE_EQ(bench_model.work_of(tests[0]).operations, parameters * 32);
  EXPECT_DOUBLE_EQ(bench_model.work_of(tests[1]).operations, parameters * 4);
  EXPECT_DOUBLE_EQ(bench_model.work_of(tests[1]).bytes, 4 * weights + (9 + 10 + 11 + 12) * kv);
  EXPECT_DOUBLE_EQ(bench_model.work_of(tests[2]).bytes, 4 * weights + 2 * (9 + 10 + 11 + 12) * kv);
  EXPECT_EQ(bench_model.work_of(tests[0]).products, Products::bytes);
  for (int turn = 0; turn < 2; ++turn) {
    for (const BenchTest& test : tests) {
      bench_model.prepare(test);
      EXPECT_GT(bench_model.run(test), 0) << test.name;
    }
  }
}

TEST_F(BenchProgram, MeasuresACheckpoint) {
  const Outcome outcome = bench({sample, "--test", "pp32,tg4,tg4x2@16", "--reps", "2", "--json"});
  ASSERT_EQ(outcome.code(), 0) << outcome.error;
  const Json json = Json::parse(outcome.out);
  ASSERT_EQ(json["rows"].size(), 3U);
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["shape"], "sample-model");
    EXPECT_EQ(row["recipe"], "bf16");
    EXPECT_GT(row["tokens_per_second"].get<double>(), 0);
    EXPECT_GT(row["limit_share"].get<double>(), 0);
    EXPECT_EQ(row["runs"].size(), 2U);
  }
  EXPECT_EQ(json["rows"][2]["test"], "tg4x2@16");
  EXPECT_EQ(json["kernels"], kernels::select_kernels().name);
  EXPECT_GT(json["limits"]["read_bytes_per_second"].get<double>(), 0);
  ASSERT_EQ(json["start_up"].size(), 1U);
  EXPECT_GT(json["start_up"][0]["seconds"].get<double>(), 0);
  EXPECT_THAT(outcome.error, HasSubstr("bench: 6/6"));
}

TEST_F(BenchProgram, PrintsATable) {
  const Outcome outcome = bench({sample, "--test", "tg2", "--reps", "1", "-q"}, "scalar");
  ASSERT_EQ(outcome.code(), 0) << outcome.error;
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("kernels   scalar"), HasSubstr("limits    int8"),
                                 HasSubstr("share of limit"), HasSubstr("load and pack")));
}

TEST_F(BenchProgram, MistakesAreOneLine) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> rows{
      {{},
       "error: pq bench: there is nothing to measure; give a MODEL, --shape (llama-3.2-1b, smollm-135m, "
       "tinyllama-1.1b, llama-3-8b) or --linear\n"},
      {{"--shape", "llama-3.2-1"},
       "error: --shape llama-3.2-1: there is no shape of this name; did you mean 'llama-3.2-1b'?\n"},
      {{"--shape", "smollm-135m", "--recipe", "w4a8kv4-statik"},
       "error: --recipe w4a8kv4-statik: there is no recipe of this name; did you mean 'w4a8kv4-static'?\n"},
      {{sample, "--recipe", "bf16"},
       "error: --recipe: is for shapes with random weights; a checkpoint has its own; leave it out, or give --shape\n"},
  };
  for (const auto& [arguments, message] : rows) {
    const Outcome outcome = bench(arguments);
    EXPECT_EQ(outcome.code(), 2) << message;
    EXPECT_EQ(outcome.error, message);
    EXPECT_EQ(outcome.out, "");
  }
  const Outcome test = bench({"--shape", "smollm-135m", "--test", "pp5l2"});
  EXPECT_EQ(test.code(), 2);
  EXPECT_THAT(test.error, StartsWith("error: --test pp5l2: is not a test; did you mean 'pp512'? "));
  const Outcome large = bench({"--shape", "llama-3-8b", "--recipe", "bf16", "--test", "tg1x64@1000000"});
  EXPECT_EQ(large.code(), 2);
  EXPECT_THAT(large.error, AllOf(StartsWith("error: llama-3-8b: bf16 takes about "), HasSubstr("are free; choose")));
  const Outcome missing = bench({"/no/such/model"});
  EXPECT_EQ(missing.code(), 2);
  EXPECT_THAT(missing.error, StartsWith("error: /no/such/model"));
}

TEST_F(BenchProgram, AnInstructionSetThatIsNotHere) {
  const Outcome outcome = bench({sample, "--test", "tg1", "--reps", "1"}, "nonsense");
  EXPECT_EQ(outcome.code(), 2);
  EXPECT_THAT(outcome.error, StartsWith("error: PQ_FORCE_ISA: this program has no kernels named 'nonsense'"));
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (kernels::supported(*table)) continue;
    const Outcome lacking = bench({sample, "--test", "tg1", "--reps", "1"}, table->name);
    EXPECT_EQ(lacking.code(), 2) << table->name;
    EXPECT_THAT(lacking.error, StartsWith("error: PQ_FORCE_ISA: this processor has no ")) << table->name;
  }
}

}  // namespace
}  // namespace pq::cli
