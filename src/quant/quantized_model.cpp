#include "quant/quantized_model.h"

#include "model/block_formats.h"
#include "model/key_basis.h"

namespace pq::quant {
namespace {

at::Tensor rows_of(const io::TensorView& view, const at::TensorOptions& options) {
  at::Tensor rows = at::empty(view.shape, at::kFloat);
  io::to_float32(view, {rows.data_ptr<float>(), static_cast<std::size_t>(rows.numel())});
  return rows.to(options);
}

std::unique_ptr<nn::Transformer> assemble(const io::ModelSource& source, const at::TensorOptions& options) {
  nn::Transformer::Parts parts;
  parts.spec = source.spec;
  parts.spec.tied_embeddings = false;
  parts.embedding = rows_of(source.embedding, options);
  parts.lm_head = rows_of(source.lm_head, options);
  parts.final_norm = from_floats(source.final_norm, {source.spec.hidden_size}, options);
  auto taps = std::make_shared<std::vector<nn::Tap>>();
  for (std::int64_t i = 0; i < source.spec.block_count; ++i) {
    const QuantizedBlock block = io::whole_block(source.block(i));
    parts.blocks.push_back(restore_block(block, source.spec, source.recipe, i, options));
    parts.transforms.push_back(block.transforms);
    taps->push_back(restore_tap(block, source.recipe, i, options));
  }
  parts.taps = [taps](std::int64_t block) { return (*taps)[static_cast<std::size_t>(block)]; };
  for (const auto& kv : source.prefix.blocks)
    parts.prefix.push_back(restore_prefix(kv, source.spec, source.prefix.length, options));
  return std::make_unique<nn::Transformer>(std::move(parts));
}

}  // namespace

nn::KeyFrame restore_key_frame(const std::vector<float>& basis, const std::vector<float>& mean, const ModelSpec& spec,
                               const at::TensorOptions& options) {
  nn::KeyFrame frame;
  const bool wide = c10::typeMetaToScalarType(options.dtype()) == at::kDouble;
  const at::TensorOptions floats = options.dtype(wide ? at::kDouble : at::kFloat);
  const std::vector<std::int64_t> shape{spec.kv_head_count, spec.head_dim, spec.head_dim};
  if (!basis.empty()) {
    frame.basis = from_floats(basis, shape, floats);
    frame.query_basis = from_floats(query_basis(spec, basis), shape, floats);
  }
  if (!mean.empty()) frame.mean = from_floats(mean, {spec.kv_head_count, spec.head_dim}, options);
  return frame;
}

nn::Block restore_unquantized(const QuantizedBlock& block, const ModelSpec& spec, const at::TensorOptions& options) {
  nn::Block restored;
  for (const NormRow& norm : all_norms(spec)) {
    restored.norms[norm.id] = from_floats(block.norms[norm.id], {norm.size}, options);
  }
  restored.key_frame = restore_key_frame(block.key_basis, block.key_mean, spec, options);
  return restored;
}

nn::Block restore_block(const QuantizedBlock& block, const ModelSpec& spec, const Recipe& recipe, std::int64_t index,
                        const at::TensorOptions& options) {
  const BlockFormats formats = block_formats(recipe, index);
  nn::Block restored = restore_unquantized(block, spec, options);
  for (const LinearId id : all_linears) {
    restored[id] = unpack_linear(block.linears[id], linear_shape(spec, id), formats.weight[id], options);
  }
  return restored;
}

nn::Tap restore_tap(const QuantizedBlock& block, const Recipe& recipe, std::int64_t index,
                    const at::TensorOptions& options) {
  const BlockFormats formats = block_formats(recipe, index);
  if (!formats.quantizes_sites()) return {};
  PerSite<SiteFakeQuantizer> sites;
  for (const Site site : quantized_sites) {
    sites[site] = SiteFakeQuantizer(site, formats.site[site], block.sites[site], options);
  }
  return quantizing_tap(sites);
}

nn::KeyValue restore_prefix(const Prefix::BlockKv& kv, const ModelSpec& spec, std::int64_t tokens,
                            const at::TensorOptions& options) {
  const auto restore = [&](const std::vector<std::uint16_t>& bits) {
    return from_half_bits(bits.data(), {spec.kv_head_count, tokens, spec.head_dim}, options)
        .transpose(0, 1)
        .unsqueeze(0)
        .contiguous();
  };
  return {restore(kv.key), restore(kv.value)};
}

Prefix::BlockKv save_prefix(const nn::KeyValue& kv) {
  const auto save = [](const at::Tensor& x) { return to_half_bits(x[0].transpose(0, 1)); };
  return {save(kv.key), save(kv.value)};
}

void InMemoryModel::embedding_rows(std::span<const std::uint16_t> rows) {
  embedding_.insert(embedding_.end(), rows.begin(), rows.end());
}
void InMemoryModel::lm_head_rows(std::span<const std::uint16_t> rows) {
  lm_head_.insert(lm_head_.end(), rows.begin(), rows.end());
}
void InMemoryModel::block(std::int64_t, QuantizedBlock block) { blocks_.push_back(std::move(block)); }

std::unique_ptr<nn::Transformer> InMemoryModel::transformer(const at::TensorOptions& options) const {
  const auto rows = [&](std::string_view name, const std::vector<std::uint16_t>& halves) {
    return io::TensorView{std::string(name),
                          io::DType::f16,
                          {spec_.vocab_size, spec_.hidden_size},
                          std::as_bytes(std::span(halves)),
                          "model in memory"};
  };
  io::ModelSource source;
  source.spec = spec_;
  source.recipe = recipe_;
  source.embedding = rows(tensor_names::embedding, embedding_);
  source.lm_head = rows(tensor_names::lm_head, lm_head_);
  source.final_norm = final_norm_;
  source.prefix = prefix_;
  source.block = [this](std::int64_t i) { return io::source_of(blocks_[static_cast<std::size_t>(i)]); };
  return assemble(source, options);
}

void CheckpointSink::prefix(Prefix prefix) {
  if (!prefix.empty()) writer_.write_prefix(prefix);
}

std::unique_ptr<nn::Transformer> load_quantized(const io::ModelSource& source, const at::TensorOptions& options) {
  const at::NoGradGuard no_grad;
  return assemble(source, options);
}

std::unique_ptr<nn::Transformer> load_quantized(const io::QuantizedCheckpoint& checkpoint,
                                                const at::TensorOptions& options) {
  return load_quantized(io::source_of(checkpoint), options);
}

}  // namespace pq::quant
