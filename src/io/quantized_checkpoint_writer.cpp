#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <stdexcept>
#include <utility>

#include "base/disk_space.h"
#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/version.h"
#include "io/block_tensors.h"
#include "io/quantized_checkpoint.h"
#include "model/token_range.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "tensors are written as they stand in memory");

constexpr std::array companion_files{"tokenizer.json",         "tokenizer_config.json", "special_tokens_map.json",
                                     "generation_config.json", "chat_template.json",    "chat_template.jinja"};

/// What is written for people.
constexpr std::array text_files{"README.md", "report.html"};
constexpr std::string_view seal_begin = "<!-- prefixquant ";

/// The comment at the end of such a text, in Markdown and in HTML.
std::string seal_of(std::string_view text) { return fmt::format("{}{:016x} -->\n", seal_begin, fnv1a(text)); }

bool is_sealed_text(const fs::path& path) {
  if (std::find(text_files.begin(), text_files.end(), path.filename().string()) == text_files.end()) return false;
  std::error_code code;
  if (!fs::is_regular_file(fs::symlink_status(path, code))) return false;
  const std::string text = read_whole_file(path);
  const std::size_t seal = text.rfind(seal_begin);
  return seal != std::string::npos && text.substr(seal) == seal_of(std::string_view(text).substr(0, seal));
}

bool is_report_record(const fs::path& path) {
  std::error_code code;
  if (path.filename() != report_record_file || !fs::is_regular_file(fs::symlink_status(path, code))) return false;
  try {
    const Json record = read_json_file(path);
    return record.is_object() && record.contains(report_record_key);
  } catch (const Error&) {
    return false;
  }
}

std::uint64_t companion_bytes(const TextFiles& texts) {
  std::uint64_t sum = 0;
  for (const char* name : companion_files) sum += texts.has(name) ? texts.read(name).size() : 0;
  return sum;
}

std::unique_ptr<OutputDirectory> open_output(const HfCheckpoint& source, const fs::path& out, bool replace) {
  QuantizedCheckpointWriter::check_output(source, out, replace);
  return std::make_unique<OutputDirectory>(out, QuantizedCheckpointWriter::output_kind(), replace);
}

/// Whether a checkpoint of this program has files called so.
bool is_own_file(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name == "config.json" || name == "resume" || name == "model.safetensors.index.json") return true;
  if (name.starts_with("model") && name.ends_with(".safetensors")) return true;
  return std::find(companion_files.begin(), companion_files.end(), name) != companion_files.end();
}

void refuse_replacing_others(const fs::path& out) {
  if (!is_quantized_checkpoint(out)) {
    throw InputError(out.string(), "holds an unquantized model and will not be replaced", "choose another -o");
  }
  std::error_code code;
  for (fs::directory_iterator entry(out, code), end; !code && entry != end; entry.increment(code)) {
    if (is_own_file(entry->path()) || is_sealed_text(entry->path()) || is_report_record(entry->path())) continue;
    throw InputError(entry->path().string(), "is no part of a checkpoint, and would be lost",
                     "move it away, or choose another -o");
  }
}

void write_whole_file(const fs::path& path, std::span<const std::byte> bytes) {
  OutputFile file(path);
  file.write(bytes);
  file.finish();
}

void write_json(const fs::path& path, const Json& json) {
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  write_whole_file(path, std::as_bytes(std::span(text)));
}

}  // namespace

CheckpointHeader checkpoint_header(const ModelSpec& spec, const Recipe& recipe,
                                   std::vector<std::int32_t> prefix_token_ids, std::string_view prefix_text,
                                   const Json& provenance) {
  const auto length = static_cast<std::int64_t>(prefix_token_ids.size());
  return {
      recipe,    online_rotations(spec, recipe.rotate), length, std::move(prefix_token_ids), std::string(prefix_text),
      provenance};
}

std::vector<TensorDeclaration> checkpoint_layout(const ModelSpec& spec, const CheckpointHeader& header) {
  std::vector<TensorDeclaration> layout;
  layout.push_back({std::string(tensor_names::embedding), DType::f16, {spec.vocab_size, spec.hidden_size}});
  QuantizedBlock empty;
  empty.transforms = header.transforms;
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    visit_block(spec, header.recipe, block, std::as_const(empty),
                [&](TensorDeclaration declaration, const auto&) { layout.push_back(std::move(declaration)); });
  }
  layout.push_back({std::string(tensor_names::final_norm), DType::f32, {spec.hidden_size}});
  layout.push_back({std::string(tensor_names::lm_head), DType::f16, {spec.vocab_size, spec.hidden_size}});
  if (header.prefix_length > 0) {
    if (!header.prefix_token_ids.empty()) {
      layout.push_back({std::string(prefix_names::token_ids), DType::i32, {header.prefix_length}});
    }
    for (std::int64_t block = 0; block < spec.block_count; ++block) {
      const std::vector<std::int64_t> shape{spec.kv_head_count, header.prefix_length, spec.head_dim};
      layout.push_back({prefix_names::key(block), DType::f16, shape});
      layout.push_back({prefix_names::value(block), DType::f16, shape});
    }
  }
  return layout;
}

void QuantizedCheckpointWriter::check_output(const HfCheckpoint& source, const fs::path& out, bool replace,
                                             Unfinished unfinished, bool replace_unfinished) {
  std::error_code code;
  if (replace && fs::exists(out, code)) {
    const fs::path target = fs::canonical(out, code);
    const fs::path origin = fs::canonical(source.path(), code);
    if (std::mismatch(target.begin(), target.end(), origin.begin(), origin.end()).first == target.end()) {
      throw InputError(out.string(), "holds the model that is being quantized and will not be replaced",
                       "choose another -o");
    }
  }
  OutputDirectory::check(out, output_kind(), replace, unfinished, replace_unfinished);
}

OutputKind QuantizedCheckpointWriter::output_kind() { return {"config.json", refuse_replacing_others}; }

QuantizedCheckpointWriter::QuantizedCheckpointWriter(const HfCheckpoint& source, const fs::path& out,
                                                     CheckpointHeader header, bool replace,
                                                     std::uint64_t max_shard_bytes)
    : QuantizedCheckpointWriter(source, open_output(source, out, replace), std::move(header), max_shard_bytes) {}

QuantizedCheckpointWriter::QuantizedCheckpointWriter(const HfCheckpoint& source,
                                                     std::unique_ptr<OutputDirectory> directory,
                                                     CheckpointHeader header, std::uint64_t max_shard_bytes)
    : header_(std::move(header)), spec_(source.spec()), directory_(std::move(directory)) {
  spec_.tied_embeddings = false;
  header_.transforms = without_values(header_.transforms);
  check_header();
  tensors_.emplace(directory_->partial(), checkpoint_layout(spec_, header_), max_shard_bytes);
  constexpr std::uint64_t header_bytes_a_tensor = 256;  // a generous estimate, index included
  require_free_space(
      directory_->partial(),
      tensor_bytes() + tensors_->layout().size() * header_bytes_a_tensor + companion_bytes(source.texts()) + (1U << 16),
      "the checkpoint");
  write_json_files(source);
}

void QuantizedCheckpointWriter::check_header() const {
  validate_recipe(header_.recipe, spec_);
  check_site_transforms(header_.transforms, spec_);
  const auto known = static_cast<std::int64_t>(header_.prefix_token_ids.size());
  if (header_.prefix_length < 0 || (known > 0 && known != header_.prefix_length)) {
    throw std::logic_error(fmt::format("a prefix of length {} with {} tokens", header_.prefix_length, known));
  }
  for (const std::int32_t id : header_.prefix_token_ids) {
    if (!in_vocabulary(id, spec_)) {
      throw InputError(fmt::format("prefix token {}", id),
                       fmt::format("is outside the vocabulary of {} tokens", spec_.vocab_size),
                       "choose another --prefix");
    }
  }
}

QuantizedCheckpointWriter::~QuantizedCheckpointWriter() = default;

void QuantizedCheckpointWriter::write_json_files(const HfCheckpoint& source) {
  Json config = source.config();
  config["tie_word_embeddings"] = false;
  // A model that was saved without its head has one now.
  if (config.contains("architectures")) config["architectures"] = Json::array({source.spec().family->architecture});
  Json origin = Json::object();
  origin["program"] = fmt::format("prefixquant {}", version());
  origin["source"] = source.name();
  origin["calibration"] = header_.recipe.calibration.source;
  if (header_.provenance.is_object()) origin.update(header_.provenance);
  Json block = Json::object();
  block["quant_method"] = "prefixquant";
  block["format_version"] = checkpoint_format_version;
  block["recipe"] = recipe_to_json(header_.recipe);
  block["site_transforms"] = site_transforms_to_json(header_.transforms);
  block["prefix"] = {
      {"length", header_.prefix_length}, {"token_ids", header_.prefix_token_ids}, {"text", header_.prefix_text}};
  block["provenance"] = std::move(origin);
  config["quantization_config"] = std::move(block);
  write_json(directory_->partial() / "config.json", config);

  for (const char* name : companion_files) {
    if (!source.texts().has(name)) continue;
    const std::string text = source.texts().read(name);
    write_whole_file(directory_->partial() / name, std::as_bytes(std::span(text)));
  }
}

void QuantizedCheckpointWriter::write_prefix(const Prefix& prefix) {
  if (prefix.length != header_.prefix_length || prefix.token_ids != header_.prefix_token_ids || prefix.empty() ||
      static_cast<std::int64_t>(prefix.blocks.size()) != spec_.block_count) {
    throw std::logic_error("the prefix is not the one that the checkpoint was opened with");
  }
  if (!prefix.token_ids.empty()) tensors_->append_values(prefix_names::token_ids, std::span(prefix.token_ids));
  for (std::int64_t block = 0; block < spec_.block_count; ++block) {
    const Prefix::BlockKv& kv = prefix.blocks[static_cast<std::size_t>(block)];
    tensors_->append_values(prefix_names::key(block), std::span(kv.key));
    tensors_->append_values(prefix_names::value(block), std::span(kv.value));
  }
}

void QuantizedCheckpointWriter::append_rows(std::string_view name, std::span<const std::uint16_t> rows) {
  if (name != tensor_names::embedding && name != tensor_names::lm_head) {
    throw std::logic_error(fmt::format("tensor '{}' is not written in rows", name));
  }
  if (rows.size() % static_cast<std::size_t>(spec_.hidden_size) != 0) {
    throw std::logic_error(
        fmt::format("{} values of tensor '{}' are not whole rows of {}", rows.size(), name, spec_.hidden_size));
  }
  tensors_->append(name, std::as_bytes(rows));
}

void QuantizedCheckpointWriter::write_block(std::int64_t index, const QuantizedBlock& block) {
  if (without_values(block.transforms) != header_.transforms) {
    throw std::logic_error(fmt::format("block {} has other site transforms than the header", index));
  }
  visit_block(spec_, header_.recipe, index, block, [&](const TensorDeclaration& declaration, const auto& values) {
    using Value = std::decay_t<decltype(values[0])>;
    tensors_->append_values(declaration.name, std::span<const Value>(values));
  });
}

void QuantizedCheckpointWriter::write_final_norm(std::span<const float> weight) {
  tensors_->append_values(tensor_names::final_norm, weight);
}

void QuantizedCheckpointWriter::add_text(std::string_view name, std::string_view text) {
  if (std::find(text_files.begin(), text_files.end(), name) == text_files.end())
    throw std::logic_error(fmt::format("'{}' is no text of a checkpoint", name));
  const std::string sealed = std::string(text) + seal_of(text);
  write_whole_file(directory_->partial() / name, std::as_bytes(std::span(sealed)));
}

void QuantizedCheckpointWriter::add_report_record(const Json& record) {
  write_json(directory_->partial() / report_record_file, record);
}

void replace_texts(const fs::path& checkpoint, std::span<const CheckpointText> texts, bool replace) {
  for (const CheckpointText& text : texts) {
    const fs::path path = checkpoint / text.name;
    std::error_code code;
    if (!replace && fs::exists(fs::symlink_status(path, code)) && !is_sealed_text(path)) {
      throw InputError(path.string(), "was changed since it was written, or is another's",
                       "move it away, or --force to replace it");
    }
  }
  for (const CheckpointText& text : texts)
    write_file_atomically(checkpoint / text.name, text.text + seal_of(text.text));
}

void QuantizedCheckpointWriter::commit() {
  tensors_->check_complete();
  directory_->commit();
}

}  // namespace pq::io
