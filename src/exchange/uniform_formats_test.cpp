#include "exchange/uniform_formats.h"

#include <gmock/gmock.h>

#include <string>

#include "base/error.h"
#include "base/error_for_test.h"
#include "model/spec_for_test.h"

namespace pq::exchange {
namespace {

using ::testing::HasSubstr;

Recipe with(const std::string& setting) {
  Recipe recipe = named_recipe("w8a8-ct");
  apply_setting(recipe, setting);
  return recipe;
}

TEST(UniformFormats, NamesTheFirstLayerThatDiffers) {
  ModelSpec spec = small_spec(64, 96, 4, 2, 16);
  spec.block_count = 3;
  EXPECT_NO_THROW(refuse_mixed_formats(spec, named_recipe("w8a8-ct"), true, "OUT"));
  EXPECT_NO_THROW(refuse_mixed_formats(spec, with("blocks.1.kv.bits=8"), true, "OUT"));
  EXPECT_NO_THROW(refuse_mixed_formats(spec, with("blocks.1.activation.bits=4"), false, "OUT"));
  const auto message = [&](const std::string& setting, bool activations) {
    return message_of<UnsupportedError>([&] { refuse_mixed_formats(spec, with(setting), activations, "OUT"); });
  };
  EXPECT_THAT(message("blocks.2.linear.up_proj.weight.bits=4", false),
              HasSubstr("OUT: model.layers.2.mlp.up_proj: has another weight format than the recipe's"));
  EXPECT_THAT(message("linear.o_proj.activation.bits=4", true),
              HasSubstr("OUT: model.layers.0.self_attn.o_proj: has another activation format"));
}

}  // namespace
}  // namespace pq::exchange
