#include "io/foreign_checkpoint.h"

#include <gmock/gmock.h>

#include "base/index.h"
#include "io/model_source.h"
#include "io/test_files.h"
#include "numerics/packing.h"
#include "numerics/quantize.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::read_bytes;
using testing::small_config;
using testing::TemporaryDirectory;
using testing::write_bytes;

const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "foreign";

std::vector<fs::path> cases() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(goldens)) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

/// A layer's weight [out, in] as the reference arithmetic has it, in the order of the model's inputs.
std::vector<float> dequantized(const BlockSource& block, LinearId id, const ModelSpec& spec,
                               const QuantizerFormat& format) {
  const LinearShape shape = linear_shape(spec, id);
  const QuantizedLinear& linear = block.parameters.linears[id];
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(block.weights[id].bytes.data());
  const std::size_t row_bytes = index(packed_row_bytes(shape.in_features, format.bits));
  EXPECT_EQ(block.weights[id].bytes.size(), index(shape.out_features) * row_bytes);
  const SiteTransform& transform = block.parameters.transforms[input_site(id)];
  const std::int64_t groups = format.groups(shape.in_features);
  std::vector<float> weight(index(shape.out_features * shape.in_features));
  std::vector<std::int32_t> codes(index(shape.in_features));
  for (std::int64_t row = 0; row < shape.out_features; ++row) {
    unpack_row({bytes + index(row) * row_bytes, row_bytes}, format.bits, false, codes);
    for (std::int64_t i = 0; i < shape.in_features; ++i) {
      const std::size_t at = index(row * groups + (groups == 1 ? 0 : i / format.group));
      const std::int32_t zero = format.symmetric ? 1 << (format.bits - 1) : linear.zero_points[at];
      const std::int64_t input = transform.empty() ? i : std::get<GatherStep>(transform.steps.at(0)).source[index(i)];
      weight[index(row * shape.in_features + input)] = pq::dequantize(codes[index(i)], linear.scales[at], zero);
    }
  }
  return weight;
}

TEST(ForeignCheckpoint, WeightsAreThoseOfTheProgramsThatWroteThem) {
  ASSERT_GE(cases().size(), 15U);
  for (const fs::path& path : cases()) {
    SCOPED_TRACE(path.filename().string());
    EXPECT_TRUE(is_foreign_checkpoint(path));
    const auto checkpoint = ForeignCheckpoint::open(path.string());
    const SafetensorsFile expected(path / "expected.safetensors");
    for (std::int64_t index = 0; index < checkpoint.spec().block_count; ++index) {
      const BlockSource block = checkpoint.block(index);
      for (const LinearId id : {LinearId::q, LinearId::v, LinearId::down}) {
        const TensorView view = expected.tensor(tensor_names::linear(index, id));
        std::vector<float> values(pq::index(view.size()));
        to_float32(view, values);
        EXPECT_EQ(dequantized(block, id, checkpoint.spec(), checkpoint.recipe().weight), values) << view.name;
      }
      EXPECT_EQ(block.parameters.linears[LinearId::q].bias.empty(), checkpoint.spec().family->model_type == "llama");
    }
  }
}

TEST(ForeignCheckpoint, TheRecipeSaysWhatIsThere) {
  const auto recipe = [](const char* name) { return ForeignCheckpoint::open((goldens / name).string()).recipe(); };
  EXPECT_EQ(precision_name(recipe("ct-w4-g32-biases-tied")), "W4A16g32");
  EXPECT_EQ(precision_name(recipe("ct-w8a8-static")), "W8A8");
  EXPECT_TRUE(recipe("ct-w8a8-static").activation.is_static());
  EXPECT_EQ(recipe("gptq-w4-sym-v2").name, "gptq");
  EXPECT_TRUE(recipe("gptq-w4-sym-v2").weight.symmetric);
  EXPECT_FALSE(recipe("awq-w4-g32").rotate.any());
  const auto checkpoint = ForeignCheckpoint::open((goldens / "ct-w8a8-static-asym").string());
  const SiteQuantizer site = checkpoint.block_without_weights(0).sites[Site::down_input];
  EXPECT_EQ(site.scale, std::vector{0.037F});
  EXPECT_EQ(site.zero_point, std::vector<std::int16_t>{128 - 9});
  EXPECT_TRUE(checkpoint.block(0).parameters.sites[Site::v_cache].scale.empty());
  EXPECT_EQ(open_model_source((goldens / "awq-w4-g32").string()).recipe.name, "awq");
}

TEST(ForeignCheckpoint, AnActivationOrderPermutesWhatIsRead) {
  for (const char* name : {"ct-w4-g32-order", "gptq-w4-g32-order"}) {
    const QuantizedBlock block = ForeignCheckpoint::open((goldens / name).string()).block_without_weights(0);
    for (const Site site : {Site::qkv_input, Site::o_input, Site::gate_up_input, Site::down_input}) {
      ASSERT_EQ(block.transforms[site].steps.size(), 1U) << name;
      EXPECT_TRUE(std::holds_alternative<GatherStep>(block.transforms[site].steps[0]));
    }
  }
}

/// A golden with changes in its config and its tensors.
class Damaged {
 public:
  explicit Damaged(const char* name) {
    for (const auto& entry : fs::directory_iterator(goldens / name)) {
      fs::copy(entry.path(), directory_.path() / entry.path().filename());
    }
  }
  void config(const std::function<void(Json&)>& change) {
    Json json = read_json_file(directory_.path() / "config.json");
    change(json);
    write_bytes(directory_.path() / "config.json", json.dump());
  }
  /// Rewrites the tensors; `change` may alter name and bytes of each, and drops it where it returns false.
  void tensors(const std::function<bool(std::string& name, std::string& bytes)>& change) {
    const fs::path path = directory_.path() / "model.safetensors";
    std::vector<TensorDeclaration> declarations;
    std::vector<std::string> contents;
    {
      const SafetensorsFile file(path);
      for (const std::string& name : file.names()) {
        const TensorView view = file.tensor(name);
        TensorDeclaration declaration{name, view.dtype, view.shape};
        std::string bytes(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
        if (!change(declaration.name, bytes)) continue;
        declarations.push_back(std::move(declaration));
        contents.push_back(std::move(bytes));
      }
    }
    const fs::path fresh = directory_.path() / "fresh";
    SafetensorsWriter writer(fresh, declarations);
    for (std::size_t i = 0; i < contents.size(); ++i) {
      writer.append(declarations[i].name, std::as_bytes(std::span(contents[i])));
    }
    writer.finish();
    fs::rename(fresh, path);
  }
  template <typename E>
  std::string error() const {
    return message_of<E>([&] {
      const auto checkpoint = ForeignCheckpoint::open(directory_.path().string());
      for (std::int64_t i = 0; i < checkpoint.spec().block_count; ++i) checkpoint.block(i);
    });
  }

 private:
  TemporaryDirectory directory_;
};

std::string error_of_tensors(const char* name, const std::function<bool(std::string&, std::string&)>& change) {
  Damaged damaged(name);
  damaged.tensors(change);
  return damaged.error<Error>();
}

TEST(ForeignCheckpoint, RefusesByNameWhatItCannotCompute) {
  {
    Damaged damaged("ct-w8-g32");
    damaged.config([](Json& json) { json["quantization_config"]["ignore"] = {"lm_head", "re:.*down_proj"}; });
    EXPECT_THAT(damaged.error<UnsupportedError>(),
                AllOf(HasSubstr("model.layers.0.self_attn.q_proj and model.layers.0.mlp.down_proj"),
                      HasSubstr("different formats")));
    damaged.config([](Json& json) { json["quantization_config"]["ignore"] = {"Linear"}; });
    EXPECT_THAT(damaged.error<UnsupportedError>(), HasSubstr("names no linear layer"));
  }
  const auto rename = [](std::string_view from, std::string_view to) {
    return [from, to](std::string& name, std::string&) {
      if (name == from) name = to;
      return true;
    };
  };
  EXPECT_THAT(error_of_tensors("gptq-w4-g32", rename("model.layers.0.mlp.down_proj.g_idx", "lm_head.qweight")),
              AllOf(HasSubstr("lm_head.qweight"), HasSubstr("lm_head is quantized")));
  EXPECT_THAT(error_of_tensors("gptq-w4-g32", rename("model.layers.0.mlp.down_proj.qweight", "x")),
              HasSubstr("there is no tensor 'model.layers.0.mlp.down_proj.qweight'"));
  EXPECT_THAT(error_of_tensors("ct-w8a8-static", rename("model.layers.0.mlp.down_proj.input_scale", "x")),
              HasSubstr("there is no tensor 'model.layers.0.mlp.down_proj.input_scale'"));
  // Scales of what q, k and v read alike.
  EXPECT_THAT(error_of_tensors("ct-w8a8-static",
                               [](std::string& name, std::string& bytes) {
                                 if (name.ends_with("k_proj.input_scale")) bytes = std::string("\0\0\0\x3f", 4);
                                 return true;
                               }),
              AllOf(HasSubstr("k_proj.input_scale"), HasSubstr("reads the same input")));
  EXPECT_THAT(error_of_tensors("ct-w8a8-static",
                               [](std::string& name, std::string& bytes) {
                                 if (name.ends_with("o_proj.input_scale")) bytes = std::string(4, '\0');
                                 return true;
                               }),
              AllOf(HasSubstr("o_proj.input_scale"), HasSubstr("not above 0")));
  EXPECT_THAT(error_of_tensors("gptq-w4-g32-order",
                               [](std::string& name, std::string& bytes) {
                                 if (!name.ends_with("v_proj.g_idx")) return true;
                                 std::vector<std::int32_t> groups(bytes.size() / 4);
                                 for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = i % 2 == 0 ? 0 : 1;
                                 std::memcpy(bytes.data(), groups.data(), bytes.size());
                                 return true;
                               }),
              AllOf(HasSubstr("v_proj"), HasSubstr("activation order of its own"), HasSubstr("desc_act: false")));
  EXPECT_THAT(error_of_tensors("gptq-w4-g32",
                               [](std::string& name, std::string& bytes) {
                                 if (name.ends_with("o_proj.bias")) bytes[1] = '\x3c';
                                 return true;
                               }),
              AllOf(HasSubstr("o_proj.bias"), HasSubstr("a bias where the architecture has none")));
}

TEST(ForeignCheckpoint, OtherMethodsAndPlainModelsAreSaid) {
  const TemporaryDirectory directory;
  Json config = small_config();
  testing::write_checkpoint(directory.path(), config, testing::tensors_for(config));
  EXPECT_FALSE(is_foreign_checkpoint(directory.path()));
  EXPECT_THAT(message_of<InputError>([&] { ForeignCheckpoint::open(directory.path().string()); }),
              HasSubstr("is not a checkpoint that another program quantized"));
  config["quantization_config"] = {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}};
  write_bytes(directory.path() / "config.json", config.dump());
  EXPECT_THAT(message_of<UnsupportedError>([&] { open_model_source(directory.path().string()); }),
              AllOf(HasSubstr("already quantized, by bitsandbytes"), HasSubstr("compressed-tensors, gptq and awq")));
  // Quantizing starts from unquantized weights.
  EXPECT_THAT(message_of<UnsupportedError>([&] { HfCheckpoint::open((goldens / "awq-w4-g32").string()); }),
              HasSubstr("already quantized, by awq"));
}

}  // namespace
}  // namespace pq::io
