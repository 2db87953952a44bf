#include "runtime/model.h"

#include <fmt/format.h>

#include <functional>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "base/phase_timer.h"
#include "base/progress.h"
#include "kernels/select.h"
#include "runtime/model_loader.h"
#include "runtime/model_parts.h"

namespace pq::runtime {
namespace {

void check(const ModelOptions& options) {
  if (options.lm_head_bits != 8 && options.lm_head_bits != 16) {
    throw InputError("lm_head bits", fmt::format("{} is not supported", options.lm_head_bits), "use 8 or 16");
  }
  if (options.kv_bits != 0 && options.kv_bits != 16 && options.kv_bits != 32) {
    throw InputError("KV cache bits", fmt::format("{} is not supported", options.kv_bits),
                     "use 16 or 32, or leave it to the recipe");
  }
}

/// Packs what `open` gives and says at --verbose what that took.
std::shared_ptr<const Model> pack(const std::function<ModelSource()>& open, const ModelOptions& options) {
  check(options);
  const kernels::KernelTable& table = kernels::select_kernels();
  log_verbose("kernels {}, {} threads", table.name, thread_count());
  std::shared_ptr<const Model> model;
  {
    const PhaseTimer timer("pack weights");
    model = std::make_shared<const Model>(build_model(open(), options, table));
  }
  log_verbose("weights {} a token, KV cache {} a token",
              format_bytes(static_cast<double>(model->weight_bytes_per_token())),
              format_bytes(static_cast<double>(model->kv_bytes_per_token())));
  return model;
}

}  // namespace

std::shared_ptr<const Model> Model::load(const std::string& model, const ModelOptions& options) {
  return pack([&] { return open_model(model, options.context); }, options);
}

std::shared_ptr<const Model> Model::random(const ModelSpec& spec, const Recipe& recipe, std::int64_t prefix_tokens,
                                           const ModelOptions& options) {
  return pack([&] { return random_source(spec, recipe, prefix_tokens); }, options);
}

Model::Model(std::unique_ptr<ModelParts> parts) : parts_(std::move(parts)) {}
Model::~Model() = default;

const ModelSpec& Model::spec() const { return parts_->spec; }
const Recipe& Model::recipe() const { return parts_->recipe; }
const ModelOptions& Model::options() const { return parts_->options; }
std::int64_t Model::prefix_length() const { return parts_->prefix(); }
const std::filesystem::path& Model::path() const { return parts_->path; }
const kernels::KernelTable& Model::kernels() const { return parts_->table; }

std::uint64_t Model::weight_bytes_per_token() const {
  std::uint64_t bytes = parts_->lm_head.bytes() + parts_->final_norm.size() * sizeof(float);
  for (const PackedBlock& block : parts_->blocks) {
    for (const PackedLinear& linear : block.linears) bytes += linear.bytes();
    for (const std::vector<float>& norm : block.norms) bytes += norm.size() * sizeof(float);
  }
  return bytes;
}

std::uint64_t Model::kv_bytes_per_token() const { return parts_->kv_bytes_per_token(); }

}  // namespace pq::runtime
