#include "pipeline/kind_streams.h"

#include <cstdint>
#include <utility>

#include "nn/transformer.h"
#include "quant/quantized_model.h"

namespace pq::quant {

KindStreams::KindStreams(std::vector<NumberKind> kinds, const at::Tensor& embedded)
    : kinds_(std::move(kinds)), whole_(embedded), streams_(kinds_.size(), embedded) {}

void KindStreams::advance(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                          const nn::BlockContext& context) {
  if (kinds_.empty()) return;
  for (std::size_t i = 0; i < kinds_.size(); ++i)
    streams_[i] = forward_with(whole, rounded, tap, kinds_[i].parts(), context, streams_[i]);
  whole_ = nn::forward(whole, context, whole_);
}

std::vector<KindDamage> KindStreams::damage(const TransformedModel& model) const {
  if (kinds_.empty()) return {};
  const std::vector<double> kl = streamed_kl(model, whole_, streams_);
  std::vector<KindDamage> damage;
  for (std::size_t i = 0; i < kinds_.size(); ++i) damage.push_back({kinds_[i], kl[i]});
  return damage;
}

std::vector<double> streamed_kl(const TransformedModel& whole, const at::Tensor& reference,
                                const std::vector<at::Tensor>& models) {
  const ModelSpec& spec = whole.spec();
  const at::Tensor norm = whole.final_norm();
  const auto normed = [&](const at::Tensor& hidden) {
    return nn::rms_norm(hidden.flatten(0, -2), norm, spec.rms_norm_eps);
  };
  const at::Tensor expected = normed(reference);
  std::vector<at::Tensor> rows;
  for (const at::Tensor& model : models) rows.push_back(normed(model));
  const at::TensorOptions sums = expected.options().dtype(at::kDouble);
  const std::int64_t count = expected.size(0);
  // With p and q the logits: log of the sum of exp p and of exp q so far, and the sum of exp(p - log_sum) (p - q).
  at::Tensor log_sum = at::full({count}, -std::numeric_limits<double>::infinity(), sums);
  std::vector<at::Tensor> log_sums(models.size(), log_sum);
  std::vector<at::Tensor> weighted(models.size(), at::zeros({count}, sums));
  whole.lm_head_rows([&](const std::vector<std::uint16_t>& bits) {
    const at::Tensor head = from_half_bits(
        bits.data(), {static_cast<std::int64_t>(bits.size()) / spec.hidden_size, spec.hidden_size}, whole.options());
    const at::Tensor p = nn::project_logits(spec, head, expected);
    const at::Tensor grown = at::logaddexp(log_sum, at::logsumexp(p, {1}).to(at::kDouble));
    const at::Tensor share = (p - grown.to(p.scalar_type()).unsqueeze(1)).exp_();
    const at::Tensor shrunk = (log_sum - grown).exp();
    for (std::size_t m = 0; m < models.size(); ++m) {
      const at::Tensor q = nn::project_logits(spec, head, rows[m]);
      log_sums[m] = at::logaddexp(log_sums[m], at::logsumexp(q, {1}).to(at::kDouble));
      weighted[m] = weighted[m] * shrunk + (share * (p - q)).sum(1, false, at::kDouble);
    }
    log_sum = grown;
  });
  std::vector<double> kl;
  for (std::size_t m = 0; m < models.size(); ++m)
    kl.push_back((weighted[m] + log_sums[m] - log_sum).mean().item<double>());
  return kl;
}

}  // namespace pq::quant
