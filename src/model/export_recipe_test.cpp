#include "model/export_recipe.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "model/recipe.h"
#include "model/site_transform.h"
#include "model/spec_for_test.h"

namespace pq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

TEST(ExportRecipe, IsOneWhoseGroupsDivide) {
  const ModelSpec whole = small_spec(256, 512, 4, 2, 64);
  EXPECT_EQ(export_recipe("vllm", whole, "M").recipe, "w4a16g128-ct");
  EXPECT_EQ(export_recipe("vllm", whole, "M").given_up.size(), 3U);
  EXPECT_EQ(export_recipe("llama.cpp", whole, "M").recipe, "w4a16g32-gguf");
  const ExportRecipe smollm2 = export_recipe("vllm", small_spec(576, 1536, 9, 3, 64), "M");
  EXPECT_EQ(smollm2.recipe, "w4a16g64-ct");
  EXPECT_THAT(smollm2.given_up.back(), HasSubstr("groups of 64 take their place"));
  EXPECT_THAT([] { export_recipe("vllm", small_spec(48, 88, 6, 2, 8), "M"); },
              ThrowsMessage<UnsupportedError>(HasSubstr("groups of 32")));
  EXPECT_THAT([&] { export_recipe("vlm", whole, "M"); }, ThrowsMessage<InputError>(HasSubstr("did you mean 'vllm'?")));
}

TEST(ExportRecipe, LeavesNothingOnline) {
  ModelSpec spec = small_spec(256, 512, 4, 2, 64);
  for (const char* placement : {"pre", "post"}) {
    spec.norm_placement = placement == std::string("pre") ? NormPlacement::pre : NormPlacement::post;
    for (const std::string& program : export_programs()) {
      const ExportRecipe choice = export_recipe(program, spec, "M");
      Recipe recipe = named_recipe(choice.recipe);
      for (const std::string& setting : choice.settings) apply_setting(recipe, setting);
      EXPECT_NO_THROW(validate_recipe(recipe));
      for (const auto& transform : online_rotations(spec, recipe.rotate)) EXPECT_TRUE(transform.empty());
      if (spec.norm_placement == NormPlacement::pre) {
        EXPECT_THAT(choice.settings, IsEmpty());
      } else {
        EXPECT_THAT(choice.settings, ElementsAre("rotate.r1=none"));
      }
    }
  }
}

}  // namespace
}  // namespace pq
