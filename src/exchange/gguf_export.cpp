#include "exchange/gguf_export.h"

#include <fmt/format.h>

#include <span>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/files.h"
#include "base/index.h"
#include "base/progress.h"
#include "base/text_files.h"
#include "base/version.h"
#include "exchange/gguf_keys.h"
#include "exchange/gguf_plan.h"
#include "exchange/gguf_tokens.h"
#include "exchange/gguf_writer.h"
#include "exchange/uniform_formats.h"
#include "io/gguf_metadata.h"
#include "model/block_layout.h"

namespace pq::exchange {
namespace {

namespace fs = std::filesystem;

/// `general.file_type`, which is only shown.
std::int64_t file_type(io::DType weights) {
  switch (weights) {
    case io::DType::q4_0:
      return 2;
    case io::DType::q4_1:
      return 3;
    case io::DType::q8_0:
      return 7;
    case io::DType::q2_0:
      return 41;
    default:
      return 1;
  }
}

void add_general(GgufKeys& keys, const io::QuantizedCheckpoint& checkpoint, const GgufPlan& plan,
                 const std::string& name) {
  keys.text("general.architecture", plan.architecture.name);
  keys.text("general.type", "model");
  keys.text("general.name", name.empty() ? checkpoint.directory().filename().string() : name);
  keys.text("general.quantized_by", fmt::format("PrefixQuant {}", version()));
  keys.u32("general.quantization_version", 2);
  keys.u32("general.file_type", file_type(plan.weights));
}

void add_ours(GgufKeys& keys, const io::QuantizedCheckpoint& checkpoint) {
  keys.u32(gguf_keys::format_version, 1);
  keys.i32s(gguf_keys::prefix_token_ids, checkpoint.prefix().token_ids);
  keys.text(gguf_keys::prefix_text, checkpoint.prefix_text());
  keys.text(gguf_keys::recipe, recipe_to_json(checkpoint.recipe()).dump());
}

class Writing {
 public:
  Writing(GgufWriter& writer, const io::QuantizedCheckpoint& checkpoint, const GgufPlan& plan, ScaleRounding rounding)
      : writer_(writer), checkpoint_(checkpoint), plan_(plan), rounding_(rounding) {}

  void write(std::span<const float> rope_factors) {
    writer_.append(plan_.embedding.name, checkpoint_.embedding().bytes);
    Progress progress("export", plan_.blocks.size());
    for (std::size_t block = 0; block < plan_.blocks.size(); ++block) {
      write_block(static_cast<std::int64_t>(block));
      progress.advance();
    }
    floats(plan_.final_norm.name, checkpoint_.final_norm());
    writer_.append(plan_.lm_head.name, checkpoint_.lm_head().bytes);
    if (plan_.rope_factors) floats(plan_.rope_factors->name, rope_factors);
    writer_.finish();
  }

 private:
  void floats(const std::string& name, std::span<const float> values) { writer_.append(name, std::as_bytes(values)); }

  void write_block(std::int64_t number) {
    const QuantizedBlock block = checkpoint_.block(number);
    for (const BlockTensor& tensor : plan_.blocks[index(number)]) {
      const std::string& name = tensor.declaration.name;
      if (tensor.norm) {
        floats(name, block.norms[*tensor.norm]);
        continue;
      }
      for (const LinearId id : tensor.linears) {
        const std::int64_t pairs = plan_.rope_pairs(id, checkpoint_.spec());
        if (tensor.bias) {
          floats(name, in_order(block.linears[id].bias, pairs));
          continue;
        }
        const EncodedLinear layer{block.linears[id], linear_shape(checkpoint_.spec(), id), pairs};
        writer_.append(name, encode_linear(layer, checkpoint_.recipe().weight, plan_.weights, rounding_,
                                           fmt::format("{}: {}", checkpoint_.directory().string(),
                                                       tensor_names::linear(number, id))));
      }
    }
  }

  static std::vector<float> in_order(const std::vector<float>& values, std::int64_t pairs) {
    io::TensorView order;
    order.rope_pairs = pairs;
    std::vector<float> stored(values.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      stored[index(order.stored_row(static_cast<std::int64_t>(i)))] = values[i];
    return stored;
  }

  GgufWriter& writer_;
  const io::QuantizedCheckpoint& checkpoint_;
  const GgufPlan& plan_;
  ScaleRounding rounding_;
};

}  // namespace

void check_gguf_target(const fs::path& path, bool replace) {
  if (path.empty() || !path.has_filename()) {
    throw InputError(path.string(), "is no name of a file", "give one, for example -o model.gguf");
  }
  if (!exists_or_dangles(path)) return;
  std::error_code code;
  if (!fs::is_regular_file(fs::symlink_status(path, code))) {
    throw InputError(path.string(), "exists, and is no plain file", "choose another name");
  }
  bool ours = false;
  try {
    ours = io::GgufFile(path).find(gguf_keys::format_version) != nullptr;
  } catch (const Error&) {
    // Not a GGUF file at all.
  }
  if (!ours)
    throw InputError(path.string(), "exists, and is no GGUF file that this program exported",
                     "choose another name, or remove it");
  if (!replace) throw InputError(path.string(), "exists already", "choose another name, or replace it with --force");
}

GgufExport export_gguf(const io::QuantizedCheckpoint& checkpoint, const fs::path& path, const GgufOptions& options) {
  check_gguf_target(path, options.replace);
  const std::string where = checkpoint.directory().string();
  const ModelSpec& spec = checkpoint.spec();
  const io::GgufArchitecture& architecture = architecture_for(spec, where);
  refuse_online_transforms(checkpoint.site_transforms(), where);
  refuse_mixed_formats(spec, checkpoint.recipe(), false, where);
  const io::DType weights = weight_type(checkpoint.recipe().weight, spec, where);

  GgufKeys keys;
  GgufKeys of_architecture;
  const ArchitectureKeys said = add_architecture(of_architecture, spec, architecture, where);
  const GgufPlan plan =
      make_plan(spec, architecture, weights, static_cast<std::int64_t>(said.rope_factors.size()), where);
  add_general(keys, checkpoint, plan, options.name);
  keys.append(of_architecture);
  add_tokenizer(keys, TextFiles(checkpoint.directory()), spec);
  add_ours(keys, checkpoint);

  GgufExport result;
  result.weights = weights;
  result.left_out = left_out(checkpoint.recipe(), checkpoint.site_transforms());
  result.left_out.insert(result.left_out.end(), said.notes.begin(), said.notes.end());
  write_file_atomically(path, [&](OutputFile& file) {
    GgufWriter writer(file, keys, plan.tensors());
    result.tensors = plan.tensors().size();
    Writing(writer, checkpoint, plan, options.scales).write(said.rope_factors);
    result.bytes = file.size();
    result.difference = verify_gguf(file.path(), checkpoint, plan, options.scales == ScaleRounding::refuse);
  });
  return result;
}

}  // namespace pq::exchange
