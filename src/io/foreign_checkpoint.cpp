#include "io/foreign_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/index.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view again = "the checkpoint is damaged, or its quantization config is of another one";

std::vector<float> floats_of(const TensorView& view) {
  std::vector<float> values(index(view.size()));
  to_float32(view, values);
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) refuse_not_finite(view);
  return values;
}

[[noreturn]] void fail(const TensorView& view, std::string_view what) {
  throw FormatError(fmt::format("{}: tensor '{}'", view.file, view.name), what, again);
}

Json config_of(const fs::path& path, std::string* place = nullptr) {
  return fs::is_directory(path) ? foreign_config_json(TextFiles(path), place) : Json();
}

}  // namespace

bool is_foreign_checkpoint(const fs::path& path) { return !config_of(path).is_null(); }

ForeignCheckpoint ForeignCheckpoint::open(const std::string& model, std::int64_t context) {
  const fs::path path = resolve_model(model);
  std::string where;
  const Json json = config_of(path, &where);
  if (json.is_null()) {
    throw InputError(path.string(), "is not a checkpoint that another program quantized",
                     "name one that has a quantization_config");
  }
  ForeignConfig config = parse_foreign_config(json, where);
  HfCheckpoint rest =
      HfCheckpoint::open_beside(model, context, [](std::string_view module) { return module.ends_with("_proj"); });
  return {std::move(config), std::move(rest), std::move(where)};
}

ForeignCheckpoint::ForeignCheckpoint(ForeignConfig config, HfCheckpoint rest, std::string where)
    : where_(std::move(where)), config_(std::move(config)), rest_(std::move(rest)) {
  choose_recipe();
  check_head();
  check_modules();
}

std::optional<TensorView> ForeignCheckpoint::find(std::string_view name) const {
  if (!rest_.has(name)) return std::nullopt;
  return rest_.stored(name);
}

ForeignPlace ForeignCheckpoint::place_of(std::int64_t block, LinearId id) const {
  const LinearShape shape = linear_shape(spec(), id);
  const StoredLinear stored = stored_linear(spec(), id);
  return {fmt::format("{}.{}", tensor_names::block(block), stored.name), stored.rows, shape.in_features,
          stored.first_row, shape.out_features};
}

/// The one scheme of all layers.
void ForeignCheckpoint::choose_recipe() {
  const ForeignScheme* first = nullptr;
  std::string first_name;
  for (std::int64_t block = 0; block < spec().block_count; ++block) {
    for (const LinearId id : all_linears) {
      const std::string module = place_of(block, id).module;
      const ForeignScheme* scheme = config_.scheme_of(module);
      if (first_name.empty()) {
        first = scheme;
        first_name = module;
      }
      const bool alike = (first == nullptr) == (scheme == nullptr) && (first == nullptr || *first == *scheme);
      if (alike) continue;
      throw UnsupportedError(where_,
                             fmt::format("{} and {} have different formats, which is not read", first_name, module),
                             "use a checkpoint with one format for all linear layers of the blocks");
    }
  }
  if (first == nullptr) {
    throw UnsupportedError(where_, "names no linear layer of the blocks",
                           "remove it from config.json if the weights are not quantized");
  }
  scheme_ = *first;
  recipe_.name = config_.method;
  recipe_.weight = scheme_.weight;
  recipe_.activation = scheme_.activation;
  recipe_.rotate = {ResidualRotation::none, false, false, false};
  recipe_.prefix.tokens = "none";
  validate_recipe(recipe_);
}

void ForeignCheckpoint::check_head() const {
  for (const std::string& name : rest_.names()) {
    if (!name.starts_with("lm_head.") || name == tensor_names::lm_head) continue;
    throw UnsupportedError(fmt::format("{}: tensor '{}'", rest_.stored(name).file, name),
                           "lm_head is quantized, or has a bias: neither is read",
                           "use a checkpoint whose lm_head is left as it was");
  }
}

/// Nothing stands beside the layers that has no place in the arithmetic.
void ForeignCheckpoint::check_modules() const {
  for (std::int64_t block = 0; block < spec().block_count; ++block) {
    for (const LinearId id : all_linears) {
      const ForeignPlace place = place_of(block, id);
      const std::optional<TensorView> bias = find(place.module + ".bias");
      if (!bias || linear_shape(spec(), id).bias) continue;
      // AutoGPTQ stores one of zeros where the model has none.
      const std::vector<float> values = floats_of(*bias);
      if (std::any_of(values.begin(), values.end(), [](float value) { return value != 0; })) {
        throw UnsupportedError(fmt::format("{}: tensor '{}'", bias->file, bias->name),
                               "is a bias where the architecture has none", "use a checkpoint without it");
      }
    }
  }
}

QuantizedBlock ForeignCheckpoint::block_without_weights(std::int64_t index) const {
  return read_block(index, BlockWeights::leave).parameters;
}
BlockSource ForeignCheckpoint::block(std::int64_t index) const { return read_block(index, BlockWeights::read); }

BlockSource ForeignCheckpoint::read_block(std::int64_t block, BlockWeights weights) const {
  BlockSource source;
  for (const NormRow& norm : all_norms(spec())) {
    std::vector<float>& values = source.parameters.norms[norm.id];
    values = floats_of(rest_.norm(block, norm.id));
    if (!norm.unit_offset) continue;
    for (float& value : values) value += 1;
  }
  const auto owned = std::make_shared<PerLinear<std::vector<std::uint8_t>>>();
  source.owner = owned;
  const TensorFinder finder = [this](std::string_view name) { return find(name); };
  for (const LinearId id : all_linears) {
    const ForeignPlace place = place_of(block, id);
    ForeignLinear linear = read_foreign_linear(finder, place, scheme_, weights);
    set_order(source.parameters.transforms, id, place, std::move(linear.columns));
    std::vector<std::uint8_t>& codes = (*owned)[id];
    codes = std::exchange(linear.parameters.codes, {});
    source.parameters.linears[id] = std::move(linear.parameters);
    if (linear_shape(spec(), id).bias) {
      const TensorView bias = rest_.tensor(place.module + ".bias", std::array{place.rows});
      source.parameters.linears[id].bias = floats_of(bias.rows(place.first_row, place.count));
    }
    source.weights[id] = linear.codes.value_or(TensorView{place.module,
                                                          DType::u8,
                                                          {static_cast<std::int64_t>(codes.size())},
                                                          std::as_bytes(std::span(codes)),
                                                          rest_.path().string()});
  }
  for (const Site site : quantized_sites) {
    if (!is_kv(site)) source.parameters.sites[site] = input_quantizer(block, site);
  }
  return source;
}

/// An activation order becomes a permutation of what the layers read: the same for all that read one tensor, as GPTQ
/// finds it from their common inputs.
void ForeignCheckpoint::set_order(SiteTransforms& transforms, LinearId id, const ForeignPlace& place,
                                  std::vector<std::int32_t> columns) const {
  const Site site = input_site(id);
  SiteTransform order;
  if (!columns.empty()) order.steps.emplace_back(GatherStep{std::move(columns)});
  if (readers_of(site).front() == id) {
    transforms[site] = std::move(order);
  } else if (transforms[site] != order) {
    throw UnsupportedError(fmt::format("{}: {}", rest_.path().string(), place.module),
                           "has an activation order of its own, where other layers read the same input",
                           "use a checkpoint that was quantized without activation order (desc_act: false)");
  }
}

/// Static scales of what the layers of a site read: one number, the same for all of them.
SiteQuantizer ForeignCheckpoint::input_quantizer(std::int64_t block, Site site) const {
  SiteQuantizer quantizer;
  const QuantizerFormat& format = scheme_.activation;
  if (!format.enabled() || !format.is_static()) return quantizer;
  const std::int32_t middle = format.symmetric ? 0 : 1 << (format.bits - 1);
  for (const LinearId id : readers_of(site)) {
    const std::string module = place_of(block, id).module;
    const TensorView scale = one_value(module + ".input_scale");
    SiteQuantizer own;
    own.scale = floats_of(scale);
    if (!(own.scale[0] > 0)) fail(scale, fmt::format("is {}, not above 0", own.scale[0]));
    if (!format.symmetric) {
      const TensorView zero = one_value(module + ".input_zero_point");
      if (zero.dtype != DType::i8) fail(zero, fmt::format("is {}, expected I8", dtype_name(zero.dtype)));
      const std::int32_t code = static_cast<std::int8_t>(zero.bytes[0]) + middle;
      if (code < 0 || code >= 2 * middle) fail(zero, fmt::format("is not a code of {} bits", format.bits));
      own.zero_point = {static_cast<std::int16_t>(code)};
    }
    if (id == readers_of(site).front()) quantizer = own;
    if (own.scale == quantizer.scale && own.zero_point == quantizer.zero_point) continue;
    throw UnsupportedError(fmt::format("{}: tensor '{}'", scale.file, scale.name),
                           "differs from that of another layer that reads the same input",
                           "calibrate the layers that are fused (q, k, v; gate, up) together");
  }
  return quantizer;
}

TensorView ForeignCheckpoint::one_value(const std::string& name) const {
  const std::optional<TensorView> view = find(name);
  if (!view) throw FormatError(rest_.path().string(), fmt::format("there is no tensor '{}'", name), again);
  if (view->size() != 1) fail(*view, fmt::format("is {}, expected [1]", shape_text(view->shape)));
  return *view;
}

}  // namespace pq::io
