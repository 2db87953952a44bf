#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "generation/sampler.h"
#include "measure/limits.h"
#include "measure/speed_tests.h"
#include "model/recipe.h"
#include "runtime/model.h"
#include "runtime/session.h"

namespace pq::measure {

/// A model to measure, before it is in memory.
struct Subject {
  std::string shape;   ///< name of a shape, or the checkpoint's directory
  std::string recipe;  ///< "bf16", "w4a8kv4-static"; empty for an unquantized checkpoint: weight_type() tells it
  /// Subjects of one group are measured in turns, so that they meet the same conditions, and compared.
  std::string group;
  bool checkpoint = false;
  bool quantized = false;
  std::uint64_t bytes = 0;  ///< of memory that it takes, sessions for the tests included
  std::function<std::shared_ptr<const runtime::Model>()> load;
};

/// A named shape with random weights; "bf16" or a name of recipe_names(). `lm_head_bits` is that of quantized models.
/// Throws InputError for unknown names.
Subject random_subject(const std::string& shape, const std::string& recipe, int lm_head_bits,
                       const std::vector<BenchTest>& tests);
/// A checkpoint. Opens it once to see what it is; throws what that throws.
Subject checkpoint_subject(const std::string& model, int lm_head_bits, const std::vector<BenchTest>& tests);

/// "bf16" and the built-in recipes.
std::vector<std::string> bench_recipe_names();

/// Type of the weights of an unquantized model: "bf16", "f16" or "f32".
std::string weight_type(const runtime::Model& model);

/// Runs tests on one model and keeps its sessions, with what they hold, between them.
class BenchModel {
 public:
  /// `capacity` tokens fit in each session.
  BenchModel(std::shared_ptr<const runtime::Model> model, std::int64_t capacity);

  const runtime::Model& model() const { return *model_; }
  /// Makes the sessions hold exactly test.depth tokens; what they hold already is used.
  void prepare(const BenchTest& test);
  /// Runs the test on prepared sessions. Returns seconds.
  double run(const BenchTest& test);
  /// Touches weights and working memory.
  void warm_up();

  Work work_of(const BenchTest& test) const;

 private:
  void prefill(const BenchTest& test);
  void generate(const BenchTest& test);
  void append_random(runtime::Session& session, std::int64_t tokens);
  std::int32_t random_token();

  std::shared_ptr<const runtime::Model> model_;
  std::int64_t capacity_;
  std::vector<runtime::Session> sessions_;
  Sampler greedy_;
  Random random_;
};

}  // namespace pq::measure
