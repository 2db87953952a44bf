#include "report/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pq::report {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(HubFacts, AreThoseOfTheBlockAtTheBeginning) {
  const HubFacts facts = hub_facts(
      "---\nlicense: apache-2.0 \nlanguage:\n- en\n- 'no'\ntags:\n- x\nbase_model: a/b\n---\n# Title\nlicense: mit\n");
  EXPECT_EQ(facts.license, "apache-2.0");
  EXPECT_THAT(facts.languages, ElementsAre("en", "no"));
  EXPECT_THAT(hub_facts("---\r\nlicense: other\r\nlicense_name: gemma\r\nlanguage: [en, de]\r\n---\r\n").languages,
              ElementsAre("en", "de"));
  EXPECT_EQ(hub_facts("---\nlicense: other\nlicense_name: gemma\n---\n").license_name, "gemma");
  EXPECT_EQ(hub_facts("\xEF\xBB\xBF---\nlicense: mit\n---\n").license, "mit");
}

TEST(HubFacts, HostileOnesSayNothing) {
  for (const char* text :
       {"", "---", "# No block\nlicense: mit\n", "---\nlicense: mit\n", "---\nlicense: \"a\\nb: c\"\n---\n",
        "---\nlicense: <script>\n---\n", "---\nlicense: [mit]\n---\n", "---\n  license: mit\n---\n"})
    EXPECT_EQ(hub_facts(text).license, "") << text;
  EXPECT_THAT(hub_facts("---\nlanguage:\n- \"en: evil\"\n- {a: b}\n---\n").languages, IsEmpty());
}

ModelCard sample_card() {
  ModelCard card;
  card.name = "tiny_w4";
  card.base_model = "org/tiny";
  card.base = {"apache-2.0", "", {"en", "no"}};
  card.program = "prefixquant 0.1.0";
  card.recipe = "w4a4kv4-static";
  card.precision = "W4A4KV4";
  card.recipe_in_words = "4-bit weights, static scales";
  card.prefix_text = "<s>.\n```";
  card.prefix_token_ids = {1, 13};
  card.calibration = "c4.jsonl";
  card.sizes = {"", {"what", "size"}, {{"all tensors", "80 MiB"}}};
  card.command = "pq quantize org/tiny -o tiny_w4";
  card.commands = {"pq run tiny_w4"};
  return card;
}

TEST(ModelCard, IsWrittenForTheHub) {
  EXPECT_EQ(to_markdown(sample_card()),
            "---\nlicense: apache-2.0\nlanguage:\n- \"en\"\n- \"no\"\nbase_model: \"org/tiny\"\n"
            "base_model_relation: quantized\nlibrary_name: prefixquant\npipeline_tag: text-generation\ntags:\n"
            "- prefixquant\n- quantized\n- \"w4a4kv4-static\"\n---\n\n"
            "# tiny\\_w4\n\n[org/tiny](https://huggingface.co/org/tiny) quantized to W4A4KV4 by prefixquant 0.1.0.\n\n"
            "## Recipe\n\n**w4a4kv4-static**: 4-bit weights, static scales.\n\n"
            "Every sequence begins with a fixed prefix, whose keys and values are stored with the model (token ids 1, "
            "13):\n\n"
            "````text\n<s>.\\n```\n````\n\nCalibrated on c4.jsonl.\n\nMade with:\n\n"
            "```sh\npq quantize org/tiny -o tiny_w4\n```\n\n## Size\n\n| what | size |\n|---|---|\n| all tensors | 80 "
            "MiB |\n\n"
            "## Use\n\n```sh\npq run tiny_w4\n```\n");
}

TEST(ModelCard, HostileTextsStayText) {
  ModelCard card = sample_card();
  card.name = "x\"\n---\nevil: true";
  card.base_model = "a\"\nlicense: mit/<script>";
  card.recipe = "r\n- \"y\"";
  card.prefix_text = "\xe2\x80\xae````\n# heading";
  card.calibration = "<img src=x>\n# y";
  const std::string text = to_markdown(card);
  EXPECT_THAT(text, HasSubstr("base_model: \"a\\\"\\nlicense: mit/<script>\"\n"));
  EXPECT_THAT(text, HasSubstr("`````text\n\\u{202e}````\\n# heading\n`````\n"));
  EXPECT_THAT(text, Not(HasSubstr("\nevil")));
  EXPECT_THAT(text, Not(HasSubstr("<img")));
  EXPECT_THAT(text, Not(HasSubstr("huggingface.co")));
  EXPECT_THAT(text, HasSubstr("**r\\\\n- \"y\"**"));
  std::size_t fences = 0;
  for (std::size_t at = 0; (at = text.find("\n---\n", at)) != std::string::npos; ++at) ++fences;
  EXPECT_EQ(fences, 1U);  // that which closes the block
}

TEST(ModelCard, SaysWhatIsNotKnown) {
  ModelCard card = sample_card();
  card.base_model = "";
  card.base = {};
  card.prefix_text = "";
  const std::string text = to_markdown(card);
  EXPECT_THAT(text, HasSubstr("license: unknown\nlibrary_name"));
  EXPECT_THAT(text, Not(HasSubstr("base_model")));
  EXPECT_THAT(text, HasSubstr("No prefix."));
}

}  // namespace
}  // namespace pq::report
