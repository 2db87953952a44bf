#include "measure/model_speed.h"

#include <gtest/gtest.h>

#include "measure/shapes.h"

namespace pq::measure {
namespace {

TEST(BenchModel, WorkIsWhatTheShapeAsksFor) {
  ModelSpec spec = named_shape("smollm-135m");
  spec.block_count = 2;
  spec.vocab_size = 64;
  const auto model = runtime::Model::random(spec, named_recipe("w4a8kv4-static"), 1, {});
  BenchModel bench_model(model, 64);
  const auto tests = parse_tests({"pp16x2", "tg4@8", "tg4x2@8", "tg3"});
  const double parameters = 2.0 * 2 * static_cast<double>(block_parameters(spec));
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

}  // namespace
}  // namespace pq::measure
