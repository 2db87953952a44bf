#include "verify/verify.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"
#include "base/index.h"
#include "runtime/forward.h"
#include "verify/logit_distance.h"
#include "verify/reference.h"

namespace pq::runtime {
namespace {

// Rounding of float32: half a unit in the last place of 1.
constexpr double unit = 0x1p-24;

Matrix matrix_of(const RowBuffer& buffer, std::int64_t rows, std::int64_t columns) {
  Matrix result(rows, columns);
  const ConstRows values = buffer.rows(rows);
  for (std::int64_t row = 0; row < rows; ++row) std::copy_n(values.row(row), columns, result.row(row).begin());
  return result;
}

double sum_of_magnitudes(std::span<const double> x) {
  double sum = 0;
  for (const double value : x) sum += std::fabs(value);
  return sum;
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
        sequence_(parts_, std::max<std::int64_t>(1, count_)) {
    report_.kernels = model.kernels().name;
    report_.tokens = count_;
  }

  VerifyReport run();

 private:
  const ModelSpec& spec() const { return parts_.spec; }
  const QuantizedBlock& parameters() const { return block_source_.parameters; }
  const PackedBlock& packed() const { return parts_.blocks[index(block_)]; }
  VerifyRow& row(const std::string& tensor);
  void compare(const std::string& tensor, const Matrix& actual, const Matrix& expected, const Matrix& bound);
  void compare_codes(const std::string& tensor, std::int64_t codes, std::int64_t differing);

  void stage(Stage stage, std::int64_t block);
  void check_norm(const std::string& tensor, std::span<const float> gamma);
  void check_input(Site site, const LinearInput& input, const SiteQuantizer& parameters, const RowBuffer& floats);
  void check_linear(LinearId id, const RowBuffer& out);
  void check_residual(LinearId id);
  void check_heads(const std::string& tensor, const Matrix& before, const RowBuffer& after);
  void check_cache(Site site, KvCache::Part part, const RowBuffer& floats, const KvQuantizer& quantizer, Matrix& held);
  void check_attention();
  void check_product();
  void check_rotated_product();
  void check_head(const std::vector<float>& logits);
  Matrix rounding(const LinearInput& input, const PackedLinear& linear, Matrix magnitude) const;

  const ModelParts& parts_;
  const ModelSource& source_;
  std::span<const std::int32_t> tokens_;
  std::int64_t count_;
  const std::function<void()>& progress_;
  Sequence sequence_;
  Workspace work_;
  VerifyReport report_;

  std::int64_t block_ = 0;
  BlockSource block_source_;
  Matrix residual_;  // of the runtime, before what is checked now
  Matrix expected_;  // float32 rows that the next quantizer reads, as the runtime has them
  Matrix input_;     // what the linear layers multiply: dequantized codes
  Matrix query_;     // as q, k and v_proj gave them
  Matrix key_;
  Matrix product_;
  Matrix stream_;   // the reference's own residual stream
  Matrix control_;  // the same from an embedding that was moved a little
};

VerifyRow& Verification::row(const std::string& tensor) {
  const auto found = std::find_if(report_.rows.begin(), report_.rows.end(),
                                  [&](const VerifyRow& existing) { return existing.tensor == tensor; });
  if (found != report_.rows.end()) return *found;
  report_.rows.push_back({});
  report_.rows.back().tensor = tensor;
  return report_.rows.back();
}

void Verification::compare(const std::string& tensor, const Matrix& actual, const Matrix& expected,
                           const Matrix& bound) {
  VerifyRow& of = row(tensor);
  for (std::size_t i = 0; i < actual.values.size(); ++i) {
    const double error = std::fabs(actual.values[i] - expected.values[i]);
    // A result that is no number is outside every bound, and so is an error where there can be none.
    double share = error / std::max(bound.values[i], 1e-37);
    if (std::isnan(share)) share = HUGE_VAL;
    of.max_error = std::max(of.max_error, error);
    if (share > of.share) {
      of.share = share;
      of.worst_block = block_;
    }
  }
  of.values += static_cast<std::int64_t>(actual.values.size());
}

void Verification::compare_codes(const std::string& tensor, std::int64_t codes, std::int64_t differing) {
  VerifyRow& of = row(tensor);
  of.codes += codes;
  of.differing += differing;
  if (differing > 0) of.worst_block = block_;
}

// The runtime's own norm of residual_ goes to expected_.
void Verification::check_norm(const std::string& tensor, std::span<const float> gamma) {
  expected_ = Matrix(residual_.rows, residual_.columns);
  const auto eps = static_cast<float>(spec().rms_norm_eps);
  std::vector<float> normed(gamma.size());
  for (std::int64_t i = 0; i < residual_.rows; ++i) {
    const std::vector<float> x(residual_.row(i).begin(), residual_.row(i).end());
    parts_.table.rms_norm(x.data(), gamma.data(), eps, residual_.columns, normed.data());
    std::copy(normed.begin(), normed.end(), expected_.row(i).begin());
  }
  const Matrix reference = rms_norm(residual_, gamma, spec().rms_norm_eps);
  Matrix bound = reference;
  // Sums of squares in at least 8 lanes, then a handful of operations.
  const double share = unit * (static_cast<double>(residual_.columns) / 8 + 16);
  for (double& value : bound.values) value = std::fabs(value) * share;
  compare(tensor, expected_, reference, bound);
}

// The codes of expected_; what they stand for goes to input_.
void Verification::check_input(Site site, const LinearInput& input, const SiteQuantizer& parameters,
                               const RowBuffer& floats) {
  const std::string tensor(site_name(site));
  const std::int64_t columns = input.plan.columns;
  const SiteCodes reference = quantize_site(site, input.format, parameters, spec().head_dim, expected_);
  input_ = reference.values;
  if (!input.plan.integer) {
    const Matrix actual = matrix_of(floats, count_, columns);
    std::int64_t differing = 0;
    for (std::size_t i = 0; i < actual.values.size(); ++i) differing += actual.values[i] != input_.values[i] ? 1 : 0;
    compare_codes(tensor, static_cast<std::int64_t>(actual.values.size()), differing);
    return;
  }
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

// How far a product may be from the exact one; `magnitude` is the sum of the absolute values of its terms.
Matrix Verification::rounding(const LinearInput& input, const PackedLinear& linear, Matrix magnitude) const {
  double share = unit * static_cast<double>(input.plan.columns + 8);
  if (linear.integer()) share = 2 * unit * static_cast<double>(input.plan.segments + 4);
  const bool rounded = !linear.integer() && linear.floats().format == kernels::FloatFormat::bf16 &&
                       parts_.options.bf16_products && parts_.table.bf16_products;
  if (rounded) share += 0x1p-8;
  for (double& value : magnitude.values) value *= share;
  return magnitude;
}

void Verification::check_linear(LinearId id, const RowBuffer& out) {
  Matrix magnitude;
  const Matrix reference = multiply(reference_linear(block_source_, spec(), source_.recipe, id), input_, &magnitude);
  const Matrix actual = matrix_of(out, count_, reference.columns);
  compare(std::string(tensor_names::linear_in_block(id)), actual, reference,
          rounding(packed().qkv_input, packed()[id], std::move(magnitude)));
}

// residual_ + the layer's product is the residual stream now.
void Verification::check_residual(LinearId id) {
  const LinearInput& input = id == LinearId::o ? packed().o_input : packed().down_input;
  Matrix magnitude;
  Matrix reference = multiply(reference_linear(block_source_, spec(), source_.recipe, id), input_, &magnitude);
  Matrix bound = rounding(input, packed()[id], std::move(magnitude));
  for (std::size_t i = 0; i < reference.values.size(); ++i) {
    reference.values[i] += residual_.values[i];
    bound.values[i] += 2 * unit * (std::fabs(reference.values[i]) + std::fabs(residual_.values[i]));
  }
  residual_ = matrix_of(work_.residual, count_, spec().hidden_size);
  compare(std::string(tensor_names::linear_in_block(id)), residual_, reference, bound);
}

// RoPE and R3.
void Verification::check_heads(const std::string& tensor, const Matrix& before, const RowBuffer& after) {
  Matrix reference = before;
  apply_rope(reference, spec().head_dim, spec().rope_theta, parts_.prefix());
  if (parts_.r3) apply_rotation(reference, spec().head_dim);
  Matrix bound(before.rows, before.columns);
  const double steps =
      parts_.r3 ? std::log2(static_cast<double>(spec().head_dim)) + static_cast<double>(parts_.r3->plan().base) + 8 : 8;
  const double shrink = parts_.r3 ? std::sqrt(static_cast<double>(parts_.r3->plan().block_order())) : 1;
  const std::size_t dim = index(spec().head_dim);
  for (std::size_t first = 0; first < before.values.size(); first += dim) {
    const double sum = sum_of_magnitudes(std::span(before.values).subspan(first, dim));
    // Each output is a signed sum of the head's values, which rotation by angles makes at most twice as large.
    std::fill_n(bound.values.begin() + static_cast<std::ptrdiff_t>(first), dim, 2 * steps * unit * sum / shrink);
  }
  compare(tensor, matrix_of(after, before.rows, before.columns), reference, bound);
}

void Verification::check_cache(Site site, KvCache::Part part, const RowBuffer& floats, const KvQuantizer& quantizer,
                               Matrix& held) {
  const Matrix x = matrix_of(floats, count_, spec().kv_size());
  const SiteQuantizer& fixed = parameters().sites[index(quantized_site_index(site))];
  Matrix reference = quantize_site(site, parts_.kv.format, fixed, spec().head_dim, x).values;
  if (parts_.kv.layout.format == kernels::KvFormat::f16) {
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
  check_heads("self_attn.query", query_, work_.query);
  check_heads("self_attn.key", key_, work_.key);
  Matrix key;
  Matrix value;
  check_cache(Site::k_cache, KvCache::Part::key, work_.key, packed().key, key);
  check_cache(Site::v_cache, KvCache::Part::value, work_.value, packed().value, value);
  const Matrix prefix_key = prefix_rows(source_, block_, true);
  const Matrix prefix_value = prefix_rows(source_, block_, false);
  const Matrix query = matrix_of(work_.query, count_, spec().query_size());
  const Matrix reference = attend(spec(), packed().window, query, key, value, prefix_key, prefix_value);
  // A score is off by the rounding of Q (to 16 bits where K is integer) against K, and as much again for sums in
  // float32; a softmax weight moves by that relatively, twice; 16-bit weights add 2^-16 of the largest one each.
  const bool wide = parts_.kv.packed;
  const double step = wide ? 0x1p-16 : unit;
  const auto keys = static_cast<double>(std::min<std::int64_t>(parts_.prefix() + count_, 128));
  double largest_key = 0;
  double largest_value = 0;
  const std::size_t dim = index(spec().head_dim);
  for (const Matrix* rows : std::array<const Matrix*, 2>{&key, &prefix_key}) {
    for (std::size_t first = 0; first < rows->values.size(); first += dim) {
      largest_key = std::max(largest_key, sum_of_magnitudes(std::span(rows->values).subspan(first, dim)));
    }
  }
  for (const Matrix* rows : std::array<const Matrix*, 2>{&value, &prefix_value}) {
    for (const double x : rows->values) largest_value = std::max(largest_value, std::fabs(x));
  }
  Matrix bound(reference.rows, reference.columns);
  for (std::size_t first = 0; first < query.values.size(); first += dim) {
    double largest_query = 0;
    for (std::size_t i = first; i < first + dim; ++i)
      largest_query = std::max(largest_query, std::fabs(query.values[i]));
    const double score = 2 * step * largest_key * largest_query / std::sqrt(static_cast<double>(spec().head_dim));
    const double rest = wide ? keys * 0x1p-16 : 16 * unit + keys * unit;
    std::fill_n(bound.values.begin() + static_cast<std::ptrdiff_t>(first), dim,
                largest_value * (2 * score + rest + 2e-6));
  }
  expected_ = matrix_of(work_.attended, count_, spec().query_size());
  compare("self_attn.attention", expected_, reference, bound);
}

void Verification::check_product() {
  Matrix gate_magnitude;
  Matrix up_magnitude;
  const auto linear = [&](LinearId id, Matrix& magnitude) {
    return multiply(reference_linear(block_source_, spec(), source_.recipe, id), input_, &magnitude);
  };
  const Matrix gate = linear(LinearId::gate, gate_magnitude);
  const Matrix up = linear(LinearId::up, up_magnitude);
  const Matrix gate_bound = rounding(packed().gate_up_input, packed()[LinearId::gate], std::move(gate_magnitude));
  const Matrix up_bound = rounding(packed().gate_up_input, packed()[LinearId::up], std::move(up_magnitude));
  const Matrix reference = silu_product(gate, up);
  Matrix bound = reference;
  for (std::size_t i = 0; i < bound.values.size(); ++i) {
    const double silu = gate.values[i] / (1 + std::exp(-gate.values[i]));
    // The slope of silu is at most 1.1; its exponential may be off by 2^-20.
    bound.values[i] = 1.1 * gate_bound.values[i] * (std::fabs(up.values[i]) + up_bound.values[i]) +
                      std::fabs(silu) * up_bound.values[i] + 0x1p-20 * std::fabs(reference.values[i]) + 1e-30;
  }
  product_ = matrix_of(work_.product, count_, spec().intermediate_size);
  compare("mlp.down_product", product_, reference, bound);
}

// The runtime's own rotation of product_ goes to expected_.
void Verification::check_rotated_product() {
  expected_ = product_;
  if (!parts_.r4) return;
  const HadamardPlan& plan = parts_.r4->plan();
  const kernels::Hadamard kernel = parts_.r4->kernel();
  AlignedBuffer row = AlignedBuffer::of<float>(index(work_.product.stride()));
  AlignedBuffer scratch = AlignedBuffer::of<float>(index(work_.product.stride()));
  Matrix reference = product_;
  Matrix bound(product_.rows, product_.columns);
  const double steps = std::log2(static_cast<double>(plan.power)) + static_cast<double>(plan.base) + 4;
  const std::size_t size = index(plan.block_order());
  for (std::int64_t i = 0; i < product_.rows; ++i) {
    std::copy(product_.row(i).begin(), product_.row(i).end(), row.as<float>().begin());
    parts_.table.hadamard(row.as<float>().data(), kernel, scratch.as<float>().data());
    std::copy_n(row.as<float>().begin(), product_.columns, expected_.row(i).begin());
    for (std::size_t first = 0; first < index(product_.columns); first += size) {
      const double sum = sum_of_magnitudes(product_.row(i).subspan(first, size));
      std::fill_n(bound.row(i).begin() + static_cast<std::ptrdiff_t>(first), size,
                  steps * unit * sum / std::sqrt(static_cast<double>(size)));
    }
  }
  apply_rotation(reference, spec().intermediate_size);
  compare("mlp.down_product, rotated", expected_, reference, bound);
}

void Verification::stage(Stage stage, std::int64_t block) {
  const auto site = [&](Site of) -> const SiteQuantizer& {
    return parameters().sites[index(quantized_site_index(of))];
  };
  switch (stage) {
    case Stage::block_input:
      block_ = block;
      block_source_ = source_.block(block);
      residual_ = matrix_of(work_.residual, count_, spec().hidden_size);
      break;
    case Stage::qkv_input:
      check_norm("input_layernorm", parameters().input_norm);
      check_input(Site::qkv_input, packed().qkv_input, site(Site::qkv_input), work_.linear.normed);
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
      check_input(Site::o_input, packed().o_input, site(Site::o_input), work_.attended);
      break;
    case Stage::attention_out:
      check_residual(LinearId::o);
      break;
    case Stage::gate_up_input:
      check_norm("post_attention_layernorm", parameters().post_attention_norm);
      check_input(Site::gate_up_input, packed().gate_up_input, site(Site::gate_up_input), work_.linear.normed);
      break;
    case Stage::product:
      check_product();
      break;
    case Stage::down_input:
      check_rotated_product();
      check_input(Site::down_input, packed().down_input, site(Site::down_input), work_.product);
      break;
    case Stage::block_output:
      check_residual(LinearId::down);
      stream_ = reference_block(source_, block_source_, block, parts_.options, stream_);
      control_ = reference_block(source_, block_source_, block, parts_.options, control_);
      if (progress_) progress_();
      break;
  }
}

void Verification::check_head(const std::vector<float>& logits) {
  block_ = spec().block_count;
  check_norm("norm", parts_.final_norm);
  input_ = expected_;
  if (parts_.head_input.plan.integer) {
    check_input(Site::block_output, parts_.head_input, {}, work_.linear.normed);
  }
  const LinearShape shape{spec().vocab_size, spec().hidden_size, false};
  const ReferenceLinear head{&source_.lm_head, nullptr, shape, QuantizerFormat{}, parts_.options.lm_head_bits == 8};
  Matrix magnitude;
  const Matrix reference = multiply(head, input_, &magnitude);
  Matrix actual(count_, spec().vocab_size);
  std::copy(logits.begin(), logits.end(), actual.values.begin());
  compare("lm_head", actual, reference, rounding(parts_.head_input, parts_.lm_head, std::move(magnitude)));
}

VerifyReport Verification::run() {
  sequence_.cover(parts_, count_);
  stream_ = embed(source_, parts_.options, tokens_);
  control_ = stream_;
  for (std::size_t i = 0; i < control_.values.size(); ++i) {
    control_.values[i] *= 1 + (i % 3 == 0 ? control_movement : i % 3 == 1 ? -control_movement : 0);
  }
  const std::array runs{Run{&sequence_, tokens_}};
  forward(parts_, work_, runs, [this](Stage at, std::int64_t block) { stage(at, block); });
  std::vector<float> logits(index(count_ * spec().vocab_size));
  residual_ = matrix_of(work_.residual, count_, spec().hidden_size);
  project_logits(parts_, work_, work_.residual.rows(count_), logits.data());
  check_head(logits);
  compare_logits(reference_logits(source_, parts_.options, stream_),
                 reference_logits(source_, parts_.options, control_), logits, report_);
  return report_;
}

}  // namespace

bool VerifyReport::passed() const {
  return std::all_of(rows.begin(), rows.end(), [](const VerifyRow& row) { return row.passed(); }) &&
         kl_divergence <= std::max(small_kl_divergence, control_factor * control_kl_divergence);
}

VerifyReport verify(const Model& model, const ModelSource& source, std::span<const std::int32_t> tokens,
                    const std::function<void()>& progress) {
  return Verification(model, source, tokens, progress).run();
}

}  // namespace pq::runtime
