#include "exchange/ct_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "base/disk_space.h"
#include "base/error.h"
#include "base/files.h"
#include "base/half.h"
#include "base/index.h"
#include "base/output_directory.h"
#include "base/parallel_for.h"
#include "base/version.h"
#include "exchange/prefix_tokenizer.h"
#include "io/block_tensors.h"
#include "io/foreign_checkpoint.h"
#include "io/sharded_writer.h"
#include "numerics/packing.h"

namespace pq::exchange {
namespace {

namespace fs = std::filesystem;

constexpr const char* own_key = "prefixquant";
constexpr std::array companions{"tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
                                "chat_template.json", "chat_template.jinja"};

void write_text(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.finish();
}
void write_json(const fs::path& path, const Json& json) {
  write_text(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

/// Nothing but an export of this program is replaced.
void refuse_others(const fs::path& out) {
  const Json config = read_json_file(out / "config.json");
  if (config.is_object() && config.contains(own_key)) return;
  throw InputError(out.string(), "holds a model that is no export of this program and will not be replaced",
                   "choose another -o");
}

float in_type(float value, io::DType type) {
  return type == io::DType::bf16 ? bf16_to_float(float_to_bf16(value)) : f16_to_float(float_to_f16(value));
}

class Exporter {
 public:
  Exporter(const io::QuantizedCheckpoint& checkpoint, const fs::path& out, const CtOptions& options)
      : checkpoint_(checkpoint), spec_(checkpoint.spec()), recipe_(checkpoint.recipe()), options_(options) {
    made_.plan = plan_compressed_tensors(checkpoint);
    if (!made_.plan.scales_fit && !options.round_scales) {
      throw UnsupportedError(fmt::format("{}: recipe field weight.scale_type", checkpoint.directory().string()),
                             "its scales are float32, and the format's 16-bit numbers",
                             "quantize again with --set weight.scale_type=f16, which keeps every weight, or round "
                             "them: --round-scales");
    }
    directory_.emplace(out, OutputKind("config.json", refuse_others), options.replace);
  }

  CtExport run() {
    std::vector<io::TensorDeclaration> layout = ct_layout(spec_, recipe_, made_.plan);
    std::uint64_t bytes = 0;
    for (const io::TensorDeclaration& tensor : layout) bytes += tensor.byte_count();
    constexpr std::uint64_t beside = std::uint64_t{1} << 26;  // tokenizer and headers, a generous estimate
    require_free_space(directory_->partial(), bytes + beside, "the export");
    writer_.emplace(directory_->partial(), std::move(layout), options_.max_shard_bytes);
    made_.bytes = writer_->tensor_bytes();
    made_.files = writer_->files();
    write_tensors();
    write_texts();
    verify();
    directory_->commit();
    return made_;
  }

 private:
  io::DType real() const { return made_.plan.real; }
  bool bytes_layout() const { return made_.plan.layout == io::ForeignLayout::int_quantized; }

  void append_real(std::string_view name, std::span<const float> values) {
    std::vector<std::uint16_t> halves(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      halves[i] = real() == io::DType::bf16 ? float_to_bf16(values[i]) : float_to_f16(values[i]);
      const float held = in_type(values[i], real());
      moved_ = moved_ || (held != values[i] && !name.ends_with(".weight_scale"));
      if (std::isfinite(held)) continue;
      throw UnsupportedError(fmt::format("{}: tensor '{}'", checkpoint_.directory().string(), name),
                             fmt::format("holds {}, beyond {}", values[i], torch_dtype(real())),
                             "quantize again with --set weight.scale_type=bf16");
    }
    writer_->append_values(name, std::span<const std::uint16_t>(halves));
  }

  /// Rows that the checkpoint has as binary16, some at a time.
  void append_rows(const io::TensorView& view) {
    if (real() == io::DType::f16) return writer_->append(view.name, view.bytes);
    constexpr std::int64_t rows_at_once = 1024;
    for (std::int64_t first = 0; first < view.shape[0]; first += rows_at_once) {
      const std::int64_t count = std::min(rows_at_once, view.shape[0] - first);
      std::vector<float> values(index(count * view.shape[1]));
      io::rows_to_float32(view, first, count, values);
      std::vector<std::uint16_t> halves(values.size());
      std::transform(values.begin(), values.end(), halves.begin(), float_to_bf16);
      writer_->append(view.name, std::as_bytes(std::span(halves)));
    }
  }

  /// As the family's own checkpoints keep a norm.
  std::vector<float> stored_norm(std::vector<float> norm, bool offset) const {
    if (offset) {
      for (float& value : norm) value -= 1;
    }
    return norm;
  }

  void write_tensors() {
    append_rows(checkpoint_.embedding());
    for (std::int64_t index = 0; index < spec_.block_count; ++index) write_block(index);
    append_real(tensor_names::final_norm, stored_norm(checkpoint_.final_norm(), spec_.norm_offset));
    append_rows(checkpoint_.lm_head());
    writer_->check_complete();
    if (moved_) {
      made_.plan.left_out.push_back(
          fmt::format("digits of norms and biases beyond {}, which the model computes in", torch_dtype(real())));
    }
  }

  void write_block(std::int64_t index) {
    const QuantizedBlock block = checkpoint_.block_without_weights(index);
    for (const NormRow& norm : all_norms(spec_)) {
      append_real(tensor_names::norm(index, norm), stored_norm(block.norms[norm.id], norm.unit_offset));
    }
    for (const CtModule& module : ct_modules(spec_, index)) {
      const auto joined = [&](auto member) {
        auto all = block.linears[module.parts.front()].*member;
        for (std::size_t i = 1; i < module.parts.size(); ++i) {
          const auto& more = block.linears[module.parts[i]].*member;
          all.insert(all.end(), more.begin(), more.end());
        }
        return all;
      };
      write_codes(index, module);
      const std::vector<float> scales = joined(&QuantizedLinear::scales);
      if (bytes_layout()) {
        writer_->append_values(module.name + ".weight_scale", std::span<const float>(scales));
      } else {
        for (const float scale : scales) {
          made_.largest_scale_change = std::max(made_.largest_scale_change,
                                                static_cast<double>(std::fabs(in_type(scale, real()) - scale) / scale));
        }
        append_real(module.name + ".weight_scale", scales);
        writer_->append_values(module.name + ".weight_shape",
                               std::span<const std::int64_t>(std::array{module.rows, module.columns}));
        if (!recipe_.weight.symmetric) write_zero_points(module, joined(&QuantizedLinear::zero_points));
      }
      write_input_scale(block.sites[input_site(module.parts.front())], module);
      if (module.bias) append_real(module.name + ".bias", joined(&QuantizedLinear::bias));
    }
  }

  void write_codes(std::int64_t index, const CtModule& module) {
    const std::int64_t row_bytes = packed_row_bytes(module.columns, recipe_.weight.bits);
    for (const LinearId id : module.parts) {
      const io::TensorView codes = checkpoint_.tensor(tensor_names::linear(index, id) + ".qweight");
      if (bytes_layout()) {
        std::vector<std::byte> bytes(codes.bytes.begin(), codes.bytes.end());
        for (std::byte& byte : bytes) byte ^= std::byte{0x80};
        writer_->append(module.name + ".weight", bytes);
      } else if (row_bytes % 4 == 0) {
        writer_->append(module.name + ".weight_packed", codes.bytes);
      } else {
        const std::int64_t padded = (row_bytes + 3) / 4 * 4;
        std::vector<std::byte> bytes(pq::index(codes.shape[0] * padded));
        for (std::int64_t row = 0; row < codes.shape[0]; ++row) {
          std::memcpy(bytes.data() + row * padded, codes.bytes.data() + row * row_bytes, pq::index(row_bytes));
        }
        writer_->append(module.name + ".weight_packed", bytes);
      }
    }
  }

  /// Zero points of each group as a stream of bits along the output: rows of the transposed matrix, packed as weights
  /// are, and turned back.
  void write_zero_points(const CtModule& module, const std::vector<std::int16_t>& zeros) {
    const int bits = recipe_.weight.bits;
    const std::int64_t groups = recipe_.weight.groups(module.columns);
    const std::int64_t words = (module.rows * bits + 31) / 32;
    std::vector<std::uint32_t> packed(pq::index(words * groups));
    std::vector<std::int16_t> column(pq::index(module.rows));
    std::vector<std::uint8_t> stream(pq::index(words) * 4);
    for (std::int64_t group = 0; group < groups; ++group) {
      for (std::int64_t row = 0; row < module.rows; ++row)
        column[pq::index(row)] = zeros[pq::index(row * groups + group)];
      std::fill(stream.begin(), stream.end(), std::uint8_t{0});
      pack_row(column, bits, false, std::span(stream).first(pq::index(packed_row_bytes(module.rows, bits))));
      for (std::int64_t word = 0; word < words; ++word) {
        std::memcpy(&packed[pq::index(word * groups + group)], stream.data() + 4 * word, 4);
      }
    }
    writer_->append_values(module.name + ".weight_zero_point", std::span<const std::uint32_t>(packed));
  }

  void write_input_scale(const SiteQuantizer& site, const CtModule& module) {
    const QuantizerFormat& activation = recipe_.activation;
    if (!activation.enabled() || !activation.is_static()) return;
    writer_->append_values(module.name + ".input_scale", std::span<const float>(site.scale));
    if (activation.symmetric) return;
    const std::array zero{static_cast<std::int8_t>(site.zero_point[0] - (1 << (activation.bits - 1)))};
    writer_->append_values(module.name + ".input_zero_point", std::span<const std::int8_t>(zero));
  }

  void write_texts() {
    const TextFiles texts(checkpoint_.directory());
    Json config = checkpoint_.config();
    const Json own = config["quantization_config"];
    config["tie_word_embeddings"] = false;
    config["torch_dtype"] = torch_dtype(real());
    config["dtype"] = torch_dtype(real());
    config["quantization_config"] = made_.plan.quantization_config;
    for (const char* name : companions) {
      if (texts.has(name)) write_text(directory_->partial() / name, texts.read(name));
    }
    write_tokenizer(texts);
    config[own_key] = {{"program", fmt::format("prefixquant {}", version())},
                       {"recipe", own.at("recipe")},
                       {"prefix", own.at("prefix")},
                       {"prefix_in_tokenizer", !made_.prefix_token_ids.empty()}};
    write_json(directory_->partial() / "config.json", config);
  }

  void write_tokenizer(const TextFiles& texts) {
    constexpr const char* name = "tokenizer.json";
    const std::vector<std::int32_t>& ids = checkpoint_.prefix().token_ids;
    if (!checkpoint_.prefix().empty() && (ids.empty() || !options_.prefix)) {
      made_.plan.left_out.emplace_back(ids.empty() ? "the prefix, which comes from no known tokens" : "the prefix");
    }
    if (!texts.has(name)) return;
    if (ids.empty() || !options_.prefix) return write_text(directory_->partial() / name, texts.read(name));
    const Tokenizer tokenizer = Tokenizer::load(texts);
    write_json(directory_->partial() / name, with_prefix(texts.json(name), ids, tokenizer, texts.place(name)));
    made_.prefix_token_ids = ids;
    const std::optional<std::string>& chat = tokenizer.chat_template();
    if (!chat) return;
    const auto changed = chat_template_with_prefix(*chat, checkpoint_.prefix_text(), ids, tokenizer);
    made_.chat_prefix = changed.has_value();
    if (changed) write_text(directory_->partial() / "chat_template.jinja", *changed);
    if (!changed)
      made_.plan.left_out.emplace_back("the prefix in front of chats: its text does not encode to its tokens");
  }

  /// Everything, as somebody else reads it, against the checkpoint.
  void verify() const {
    const auto read = io::ForeignCheckpoint::open(directory_->partial().string());
    for (std::int64_t index = 0; index < spec_.block_count; ++index) {
      const io::BlockSource block = read.block(index);
      const QuantizedBlock own = checkpoint_.block_without_weights(index);
      for (const LinearId id : all_linears) {
        const std::string name = tensor_names::linear(index, id);
        const QuantizedLinear& linear = block.parameters.linears[id];
        std::vector<float> scales = own.linears[id].scales;
        if (!bytes_layout()) {
          for (float& scale : scales) scale = in_type(scale, real());
        }
        const auto codes = checkpoint_.tensor(name + ".qweight").bytes;
        expect(std::equal(codes.begin(), codes.end(), block.weights[id].bytes.begin(), block.weights[id].bytes.end()),
               name, "codes");
        expect(linear.scales == scales, name, "scales");
        expect(linear.zero_points == own.linears[id].zero_points, name, "zero points");
      }
      for (const Site site : quantized_sites) {
        if (is_kv(site) || !recipe_.activation.is_static()) continue;
        expect(block.parameters.sites[site].scale == own.sites[site].scale &&
                   block.parameters.sites[site].zero_point == own.sites[site].zero_point,
               site_name(site), "scales");
      }
    }
  }

  void expect(bool equal, std::string_view name, std::string_view what) const {
    if (equal) return;
    throw FormatError(fmt::format("{}: {}", directory_->partial().string(), name),
                      fmt::format("{} that were read back are not those that were written", what),
                      "the disk may be faulty; export again");
  }

  const io::QuantizedCheckpoint& checkpoint_;
  const ModelSpec& spec_;
  const Recipe& recipe_;
  CtOptions options_;
  CtExport made_{};
  bool moved_ = false;  // a norm or a bias
  std::optional<OutputDirectory> directory_;
  std::optional<io::ShardedWriter> writer_;
};

}  // namespace

CtExport export_compressed_tensors(const io::QuantizedCheckpoint& checkpoint, const fs::path& out,
                                   const CtOptions& options) {
  return Exporter(checkpoint, out, options).run();
}

}  // namespace pq::exchange
