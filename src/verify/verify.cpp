#include "verify/verify.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"
#include "base/index.h"
#include "model/key_basis.h"
#include "runtime/forward.h"
#include "verify/bounds.h"
#include "verify/comparison.h"
#include "verify/logit_distance.h"
#include "verify/reference.h"

namespace pq::runtime {
namespace {

Matrix matrix_of(const RowBuffer& buffer, std::int64_t rows, std::int64_t columns) {
  Matrix result(rows, columns);
  const ConstRows values = buffer.rows(rows);
  for (std::int64_t row = 0; row < rows; ++row) std::copy_n(values.row(row), columns, result.row(row).begin());
  return result;
}

class Verification {
 public:
  Verification(const Model& model, const ModelSource& source, std::span<const std::int32_t> tokens,
               const std::function<void()>& progress)
      : parts_(model.parts()),
        source_(source),
        tokens_(tokens),
        count_(static_cast<std::int64_t>(tokens.size())),
        progress_(progress),
        sequence_(parts_, std::max<std::int64_t>(1, count_)) {}

  VerifyReport run();

 private:
  const ModelSpec& spec() const { return parts_.spec; }
  const QuantizedBlock& parameters() const { return block_source_.parameters; }
  const PackedBlock& packed() const { return parts_.blocks[index(block_)]; }
  /// The reference's product of what the layer multiplies.
  Matrix product(LinearId id, Matrix* magnitude) const {
    return multiply(reference_linear(block_source_, spec(), formats_, id), packed()[id].integer() ? input_ : floats_,
                    magnitude);
  }
  void compare(const std::string& tensor, const Matrix& actual, const Matrix& expected, const Matrix& bound);
  void compare_codes(const std::string& tensor, std::int64_t codes, std::int64_t differing);

  void stage(Stage stage, std::int64_t block);
  void check_norm(const std::string& tensor, std::span<const float> gamma);
  void check_input(const std::string& tensor, Site site, const LinearInput& input, const SiteQuantizer& parameters,
                   const RowBuffer& floats);
  void check_linear(LinearId id, const RowBuffer& out);
  void check_residual(LinearId id);
  void check_heads(const std::string& tensor, const Matrix& product, NormId norm, const RowBuffer& after,
                   const SiteTransform& transform, const SiteTransform& basis, std::span<const float> mean);
  void check_cache(Site site, KvCache::Part part, const RowBuffer& floats, const KvQuantizer& quantizer, Matrix& held);
  void check_attention();
  void check_product();
  void check_transform(const std::string& tensor, Site site, const OnlineTransform& transform);
  void check_head(const std::vector<float>& logits);

  const ModelParts& parts_;
  const ModelSource& source_;
  std::span<const std::int32_t> tokens_;
  std::int64_t count_;
  const std::function<void()>& progress_;
  Sequence sequence_;
  Workspace work_;
  Comparison comparison_;

  std::int64_t block_ = 0;
  BlockSource block_source_;
  BlockFormats formats_;
  Matrix residual_;  // of the runtime, before what is checked now
  Matrix expected_;  // float32 rows that the next quantizer reads, as the runtime has them
  Matrix input_;     // what the linear layers of codes multiply: dequantized codes
  Matrix floats_;    // what those of floats multiply
  Matrix query_;     // as q, k and v_proj gave them
  Matrix key_;
  Matrix product_;
  Decisions decisions_;  // the steps that the runtime chose in this block
  Matrix stream_;        // the reference's own residual stream
  Matrix control_;       // the same from an embedding that was moved a little
};

void Verification::compare(const std::string& tensor, const Matrix& actual, const Matrix& expected,
                           const Matrix& bound) {
  comparison_.add_values(tensor, block_, actual, expected, bound);
}

void Verification::compare_codes(const std::string& tensor, std::int64_t codes, std::int64_t differing) {
  comparison_.add_codes(tensor, block_, codes, differing);
}

// The runtime's own norm of residual_ goes to expected_.
void Verification::check_norm(const std::string& tensor, std::span<const float> gamma) {
  expected_ = residual_;
  if (gamma.empty()) return;
  const auto eps = static_cast<float>(spec().rms_norm_eps);
  std::vector<float> normed(gamma.size());
  for (std::int64_t i = 0; i < residual_.rows; ++i) {
    const std::vector<float> x(residual_.row(i).begin(), residual_.row(i).end());
    parts_.table.rms_norm(x.data(), gamma.data(), eps, residual_.columns, normed.data());
    std::copy(normed.begin(), normed.end(), expected_.row(i).begin());
  }
  const Matrix reference = rms_norm(residual_, gamma, spec().rms_norm_eps);
  compare(tensor, expected_, reference, norm_bound(reference));
}

// The codes of expected_; what they stand for goes to input_.
void Verification::check_input(const std::string& tensor, Site site, const LinearInput& input,
                               const SiteQuantizer& parameters, const RowBuffer& floats) {
  const std::int64_t columns = input.plan.columns;
  const QuantizerFormat& format =
      site == Site::block_output ? input.format : formats_.site[site];  // lm_head's, or this
  const SiteCodes reference = quantize_site(site, format, parameters, spec().head_dim, expected_);
  if (auto* kept = decisions_.find(site)) *kept = reference.steps;
  input_ = reference.values;
  floats_ = reference.values;
  if (!input.plan.integer || input.floats) {
    const Matrix actual = matrix_of(floats, count_, columns);
    std::int64_t differing = 0;
    for (std::size_t i = 0; i < actual.values.size(); ++i) differing += actual.values[i] != floats_.values[i] ? 1 : 0;
    compare_codes(tensor, static_cast<std::int64_t>(actual.values.size()), differing);
  }
  if (!input.plan.integer) return;
  const auto* codes = work_.linear.codes.as<std::int8_t>().data();
  const bool wide = input.plan.planes == 2;
  const std::int32_t lowered = input.format.symmetric ? 0 : 1 << (input.format.bits - 1);
  std::int64_t differing = 0;
  Matrix actual(count_, columns);
  Matrix bound(count_, columns);
  for (std::int64_t i = 0; i < count_; ++i) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t at = i * work_.linear.code_stride + c;
      std::int32_t code = codes[at];
      if (!wide) {
        differing += code + lowered != reference.codes[index(i * columns + c)] ? 1 : 0;
        continue;
      }
      code += 256 * codes[at + work_.linear.plane_stride];
      const float scale = work_.linear.scales.as<float>()[index(i * input.plan.segments + c / input.plan.segment)];
      actual.row(i)[index(c)] = code * static_cast<double>(scale);
      bound.row(i)[index(c)] = static_cast<double>(scale) * (0.5 + 0x1p-8);  // the quotient is rounded, too
    }
  }
  if (wide) {
    compare(tensor, actual, expected_, bound);
    input_ = actual;
  } else {
    compare_codes(tensor, count_ * columns, differing);
  }
}

void Verification::check_linear(LinearId id, const RowBuffer& out) {
  Matrix magnitude;
  const Matrix reference = product(id, &magnitude);
  const Matrix actual = matrix_of(out, count_, reference.columns);
  compare(std::string(tensor_names::linear_in_block(id)), actual, reference,
          product_bound(packed().qkv_input, packed()[id], std::move(magnitude)));
}

// residual_ + the layer's product is the residual stream now.
void Verification::check_residual(LinearId id) {
  const LinearInput& input = id == LinearId::o ? packed().o_input : packed().down_input;
  const NormId norm = id == LinearId::o ? NormId::attention_output : NormId::mlp_output;
  Matrix magnitude;
  Matrix reference = product(id, &magnitude);
  Matrix bound = product_bound(input, packed()[id], std::move(magnitude));
  if (parts_.workspace_shape.branches) {
    // The product on its own; then what is added, from the runtime's own product.
    const Matrix product = matrix_of(work_.branch, count_, spec().hidden_size);
    compare(std::string(tensor_names::linear_in_block(id)) + ", product", product, reference, bound);
    reference = rms_norm(product, parameters().norms[norm], spec().rms_norm_eps);
    bound = norm_bound(reference);
    for (std::size_t i = 0; i < reference.values.size(); ++i) {
      reference.values[i] *= spec().residual_scale;
      bound.values[i] *= std::fabs(spec().residual_scale);
    }
  }
  for (std::size_t i = 0; i < reference.values.size(); ++i) {
    reference.values[i] += residual_.values[i];
    bound.values[i] += 2 * float_unit * (std::fabs(reference.values[i]) + std::fabs(residual_.values[i]));
  }
  residual_ = matrix_of(work_.residual, count_, spec().hidden_size);
  compare(std::string(tensor_names::linear_in_block(id)), residual_, reference, bound);
}

// Norm, RoPE, transform, basis and K's mean. The norm is the runtime's own, which is compared first.
void Verification::check_heads(const std::string& tensor, const Matrix& product, NormId norm, const RowBuffer& after,
                               const SiteTransform& transform, const SiteTransform& basis,
                               std::span<const float> mean) {
  Matrix before = product;
  if (const std::vector<float>& gamma = parameters().norms[norm]; !gamma.empty()) {
    const auto size = static_cast<std::int64_t>(gamma.size());
    const std::vector<float> rows(product.values.begin(), product.values.end());
    std::vector<float> normed(gamma.size());
    for (std::size_t first = 0; first < rows.size(); first += gamma.size()) {
      parts_.table.rms_norm(&rows[first], gamma.data(), static_cast<float>(spec().rms_norm_eps), size, normed.data());
      std::copy(normed.begin(), normed.end(), before.values.begin() + static_cast<std::ptrdiff_t>(first));
    }
    const Matrix wanted = normed_heads(product, gamma, spec().rms_norm_eps);
    compare(std::string(norm_row(spec(), norm).name), before, wanted, norm_bound(wanted));
  }
  Matrix reference = before;
  apply_rope(reference, spec(), block_, parts_.prefix());
  apply_transform(transform, reference.values, spec().head_dim);
  apply_transform(basis, reference.values, reference.columns);
  take_mean(reference, mean);
  compare(tensor, matrix_of(after, before.rows, before.columns), reference,
          mean_bound(heads_bound(before, spec(), block_, transform, basis), reference, mean));
}

void Verification::check_cache(Site site, KvCache::Part part, const RowBuffer& floats, const KvQuantizer& quantizer,
                               Matrix& held) {
  const Matrix x = matrix_of(floats, count_, spec().kv_size());
  const SiteQuantizer& fixed = parameters().sites[site];
  SiteCodes codes = quantize_site(site, packed().kv.format, fixed, spec().head_dim, x);
  decisions_[site] = std::move(codes.steps);
  Matrix reference = std::move(codes.values);
  if (sequence_.cache.layout(block_).format == kernels::KvFormat::f16) {
    for (double& value : reference.values) {
      value = static_cast<double>(f16_to_float(float_to_f16(static_cast<float>(value))));
    }
  }
  held = Matrix(count_, spec().kv_size());
  std::vector<float> head_values(index(spec().head_dim));
  std::int64_t differing = 0;
  for (std::int64_t i = 0; i < count_; ++i) {
    for (std::int64_t head = 0; head < spec().kv_head_count; ++head) {
      sequence_.cache.load(part, block_, head, i, quantizer, head_values.data());
      std::copy(head_values.begin(), head_values.end(),
                held.row(i).begin() + static_cast<std::ptrdiff_t>(head * spec().head_dim));
    }
  }
  for (std::size_t i = 0; i < held.values.size(); ++i) differing += held.values[i] != reference.values[i] ? 1 : 0;
  compare_codes(std::string(site_name(site)), static_cast<std::int64_t>(held.values.size()), differing);
}

void Verification::check_attention() {
  const SiteTransform& of_key = parameters().transforms[Site::k_cache];
  check_heads("self_attn.query", query_, NormId::query, work_.query, inverse_transposed(of_key),
              query_basis_transform(spec(), parameters().key_basis), {});
  check_heads("self_attn.key", key_, NormId::key, work_.key, of_key,
              key_basis_transform(spec(), parameters().key_basis), parameters().key_mean);
  Matrix key;
  Matrix value;
  check_cache(Site::k_cache, KvCache::Part::key, work_.key, packed().key, key);
  check_cache(Site::v_cache, KvCache::Part::value, work_.value, packed().value, value);
  const Matrix prefix_key = prefix_rows(source_, block_, true);
  const Matrix prefix_value = prefix_rows(source_, block_, false);
  const Matrix query = matrix_of(work_.query, count_, spec().query_size());
  const Matrix reference = attend(spec(), packed().window, query, key, value, prefix_key, prefix_value);
  const Matrix bound = attention_bound({.query = query,
                                        .key = key,
                                        .value = value,
                                        .prefix_key = prefix_key,
                                        .prefix_value = prefix_value,
                                        .head_dim = spec().head_dim,
                                        .scale = spec().score_scale(),
                                        .wide = packed().kv.packed});
  expected_ = matrix_of(work_.attended, count_, spec().query_size());
  compare("self_attn.attention", expected_, reference, bound);
}

void Verification::check_product() {
  Matrix gate_magnitude;
  Matrix up_magnitude;
  const Matrix gate = product(LinearId::gate, &gate_magnitude);
  const Matrix up = product(LinearId::up, &up_magnitude);
  const Matrix gate_bound = product_bound(packed().gate_up_input, packed()[LinearId::gate], std::move(gate_magnitude));
  const Matrix up_bound = product_bound(packed().gate_up_input, packed()[LinearId::up], std::move(up_magnitude));
  const Matrix reference = gated_product(spec().activation, gate, up);
  product_ = matrix_of(work_.product, count_, spec().intermediate_size);
  compare("mlp.down_product", product_, reference,
          gated_bound(spec().activation, gate, gate_bound, up, up_bound, reference));
}

// The runtime's own transform of expected_ takes its place.
void Verification::check_transform(const std::string& tensor, Site site, const OnlineTransform& transform) {
  const SiteTransform& definition = parameters().transforms[site];
  if (definition.empty() && transform.empty()) return;
  AlignedBuffer row = AlignedBuffer::of<float>(index(expected_.columns));
  AlignedBuffer scratch = AlignedBuffer::of<float>(index(expected_.columns));
  Matrix reference = expected_;
  const Matrix bound = transform_bound(expected_, definition);
  for (std::int64_t i = 0; i < expected_.rows; ++i) {
    std::copy(expected_.row(i).begin(), expected_.row(i).end(), row.as<float>().begin());
    transform.apply(row.as<float>().data(), 1, parts_.table, scratch.data());
    std::copy_n(row.as<float>().begin(), expected_.columns, expected_.row(i).begin());
  }
  apply_transform(definition, reference.values, expected_.columns);
  compare(tensor, expected_, reference, bound);
}

void Verification::stage(Stage stage, std::int64_t block) {
  const auto site = [&](Site of) -> const SiteQuantizer& { return parameters().sites[of]; };
  const auto norm = [&](NormId id) {
    const bool there = has_norm(spec(), id);
    check_norm(there ? std::string(norm_row(spec(), id).name) : std::string(), parameters().norms[id]);
    return there ? &work_.linear.normed : &work_.branch;
  };
  const RowBuffer* floats = nullptr;
  switch (stage) {
    case Stage::block_input:
      block_ = block;
      block_source_ = source_.block(block);
      formats_ = block_formats(source_.recipe, block);
      residual_ = matrix_of(work_.residual, count_, spec().hidden_size);
      break;
    case Stage::qkv_input:
      floats = norm(NormId::attention_input);
      check_transform("self_attn.qkv_input, transformed", Site::qkv_input, packed().qkv_input.transform);
      check_input(std::string(site_name(Site::qkv_input)), Site::qkv_input, packed().qkv_input, site(Site::qkv_input),
                  *floats);
      break;
    case Stage::qkv:
      check_linear(LinearId::q, work_.query);
      check_linear(LinearId::k, work_.key);
      check_linear(LinearId::v, work_.value);
      query_ = matrix_of(work_.query, count_, spec().query_size());
      key_ = matrix_of(work_.key, count_, spec().kv_size());
      break;
    case Stage::attended:
      check_attention();
      break;
    case Stage::o_input:
      check_transform("self_attn.o_input, transformed", Site::o_input, packed().o_input.transform);
      check_input(std::string(site_name(Site::o_input)), Site::o_input, packed().o_input, site(Site::o_input),
                  work_.attended);
      break;
    case Stage::attention_out:
      check_residual(LinearId::o);
      break;
    case Stage::gate_up_input:
      floats = norm(NormId::mlp_input);
      check_transform("mlp.gate_up_input, transformed", Site::gate_up_input, packed().gate_up_input.transform);
      check_input(std::string(site_name(Site::gate_up_input)), Site::gate_up_input, packed().gate_up_input,
                  site(Site::gate_up_input), *floats);
      break;
    case Stage::product:
      check_product();
      break;
    case Stage::down_input:
      expected_ = product_;
      check_transform("mlp.down_product, rotated", Site::down_input, packed().down_input.transform);
      check_input(std::string(site_name(Site::down_input)), Site::down_input, packed().down_input,
                  site(Site::down_input), work_.product);
      break;
    case Stage::block_output:
      check_residual(LinearId::down);
      stream_ = reference_block(source_, block_source_, block, parts_.options, stream_, decisions_);
      control_ = reference_block(source_, block_source_, block, parts_.options, control_, decisions_);
      if (progress_) progress_();
      break;
  }
}

void Verification::check_head(const std::vector<float>& logits) {
  block_ = spec().block_count;
  check_norm("norm", parts_.final_norm);
  input_ = expected_;
  if (parts_.head_input.plan.integer) {
    check_input("lm_head_input", Site::block_output, parts_.head_input, {}, work_.linear.normed);
  }
  const LinearShape shape{spec().vocab_size, spec().hidden_size, false};
  const ReferenceLinear head{&source_.lm_head, nullptr, shape, QuantizerFormat{}, parts_.options.lm_head_bits == 8};
  Matrix magnitude;
  Matrix reference = multiply(head, input_, &magnitude);
  for (double& value : reference.values) value *= spec().logit_scale;
  for (double& value : magnitude.values) value *= std::fabs(spec().logit_scale);
  Matrix actual(count_, spec().vocab_size);
  std::copy(logits.begin(), logits.end(), actual.values.begin());
  compare("lm_head", actual, reference, product_bound(parts_.head_input, parts_.lm_head, std::move(magnitude)));
}

/// A stream whose values are moved up, down or not at all.
Matrix moved(Matrix stream) {
  for (std::size_t i = 0; i < stream.values.size(); ++i) {
    stream.values[i] *= 1 + control_movement * (1 - static_cast<double>(i % 3));
  }
  return stream;
}

VerifyReport Verification::run() {
  sequence_.cover(parts_, count_);
  stream_ = embed(source_, parts_.options, tokens_);
  control_ = moved(stream_);
  const std::array runs{Run{&sequence_, tokens_}};
  forward(parts_, work_, runs, [this](Stage at, std::int64_t block) { stage(at, block); });
  std::vector<float> logits(index(count_ * spec().vocab_size));
  residual_ = matrix_of(work_.residual, count_, spec().hidden_size);
  project_logits(parts_, work_, work_.residual.rows(count_), logits.data());
  check_head(logits);
  VerifyReport report;
  report.kernels = parts_.table.name;
  report.tokens = count_;
  report.rows = comparison_.rows();
  report.overflow = comparison_.overflow();
  const Matrix reference = reference_logits(source_, parts_.options, stream_);
  report.logits = compare_logits(reference, reference_logits(source_, parts_.options, control_), logits);
  return report;
}

}  // namespace

bool VerifyReport::logits_passed() const {
  return logits.kl_divergence <= std::max(small_kl_divergence, control_factor * logits.control_kl_divergence);
}

bool VerifyReport::passed() const {
  return std::all_of(rows.begin(), rows.end(), [](const VerifyRow& row) { return row.passed(); }) && logits_passed();
}

VerifyReport verify(const Model& model, const ModelSource& source, std::span<const std::int32_t> tokens,
                    const std::function<void()>& progress) {
  return Verification(model, source, tokens, progress).run();
}

}  // namespace pq::runtime
