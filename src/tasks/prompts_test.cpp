#include "tasks/prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/error_for_test.h"
#include "tasks/mmlu.h"
#include "tasks/python_text.h"
#include "tasks/wikitext.h"

namespace pq::tasks {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

JsonLine line_of(const std::string& json) { return {"t.jsonl, line 7", Json::parse(json)}; }

std::vector<std::string> texts_of(const Document& document) {
  std::vector<std::string> texts;
  for (const Prompt& prompt : document.prompts) texts.push_back(prompt.context + "|" + prompt.continuation);
  return texts;
}

TEST(Prompts, OfPiqa) {
  const Document document = piqa(line_of(R"({"goal": "To boil", "sol1": "heat", "sol2": "cool it é", "label": 1})"));
  EXPECT_THAT(texts_of(document),
              ElementsAre("Question: To boil\nAnswer:| heat", "Question: To boil\nAnswer:| cool it é"));
  EXPECT_THAT(document.characters, ElementsAre(4, 9));
  EXPECT_EQ(document.gold, 1U);
  EXPECT_EQ(document.where, "t.jsonl, line 7");
}

TEST(Prompts, OfArc) {
  const Document document = arc(line_of(
      R"({"question": "What?", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "3"})"));
  EXPECT_THAT(texts_of(document),
              ElementsAre("Question: What?\nAnswer:| a", "Question: What?\nAnswer:| b", "Question: What?\nAnswer:| c"));
  EXPECT_EQ(document.gold, 2U);
}

TEST(Prompts, OfHellaswag) {
  const Document document = hellaswag(line_of(
      R"({"activity_label": "Baking [x]", "ctx_a": "A man [title] bakes.", "ctx_b": "hE Éats",
          "endings": [" one  two [step] ", "[a\nb] c"], "label": "1"})"));
  EXPECT_THAT(texts_of(document),
              ElementsAre("Baking : A man. bakes. He éats| one two ", "Baking : A man. bakes. He éats| [a\nb] c"));
  EXPECT_EQ(document.gold, 1U);
  const Document cleaned =
      hellaswag(line_of(R"({"activity_label": "L", "ctx": "one  two [x]", "endings": ["a  b"], "label": 0})"));
  EXPECT_THAT(texts_of(cleaned), ElementsAre("L: one  two [x]| a  b"));
}

TEST(Prompts, CleanHellaswagAsTheHarnessDoes) {
  EXPECT_EQ(clean_hellaswag("  a [title] b "), "a. b");
  EXPECT_EQ(clean_hellaswag("a[b[c]d]e"), "ad]e");
  EXPECT_EQ(clean_hellaswag("a    b"), "a  b");  // once, left to right
  EXPECT_EQ(clean_hellaswag("[x"), "[x");
}

TEST(Prompts, OfWinogrande) {
  const Document document = winogrande(
      line_of(R"({"sentence": "Ann gave _  a book_ .", "option1": "Bob", "option2": "Eve", "answer": "2"})"));
  EXPECT_THAT(texts_of(document), ElementsAre("Ann gave Bob| a book_ .", "Ann gave Eve| a book_ ."));
  EXPECT_EQ(document.gold, 1U);
}

TEST(Prompts, OfLambada) {
  EXPECT_THAT(texts_of(lambada(line_of(R"({"text": "He said:\n\"Go to bed"})"))),
              ElementsAre("He said:\n\"Go to| bed"));
}

TEST(Prompts, OfMmlu) {
  const JsonLine shot = line_of(R"({"question": " Q1 ", "choices": ["w", " x", "y", "z"], "answer": 1})");
  const JsonLine line = line_of(R"({"question": "Q2", "choices": ["1", "2", "3", "4"], "answer": 3})");
  const std::string head = mmlu_head("high_school_physics", {&shot});
  EXPECT_EQ(head,
            "The following are multiple choice questions (with answers) about high school physics.\n\n"
            "Q1\nA. w\nB.  x\nC. y\nD. z\nAnswer: B\n\n");
  const Document document = mmlu_document(line, head);
  EXPECT_EQ(document.prompts[2].context, head + "Q2\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:");
  EXPECT_EQ(document.prompts[2].continuation, " C");
  EXPECT_EQ(document.gold, 3U);
  EXPECT_EQ(mmlu_subjects().size(), 57U);
}

TEST(Prompts, NameFileLineAndField) {
  EXPECT_THAT(message_of<Error>([] { piqa(line_of(R"({"goal": "g", "sol1": "a", "label": 0})")); }),
              HasSubstr("t.jsonl, line 7: field `sol2` is missing"));
  EXPECT_THAT(message_of<Error>([] { piqa(line_of(R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 2})")); }),
              HasSubstr("t.jsonl, line 7: field `label` is 2, but the 2 choices are 0 to 1"));
  EXPECT_THAT(message_of<Error>([] { piqa(line_of(R"({"goal": "g", "sol1": "", "sol2": "b", "label": 1})")); }),
              HasSubstr("t.jsonl, line 7: field `sol1` has an empty choice"));
  EXPECT_THAT(message_of<Error>([] { piqa(line_of(R"({"goal": 3, "sol1": "a", "sol2": "b", "label": 1})")); }),
              HasSubstr("t.jsonl, line 7: field `goal` is no text"));
  EXPECT_THAT(message_of<Error>([] {
                arc(line_of(R"({"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "B"})"));
              }),
              HasSubstr("t.jsonl, line 7: field `answerKey` is \"B\", which labels no choice"));
  EXPECT_THAT(
      message_of<Error>([] { arc(line_of(R"({"question": "q", "choices": {"text": ["a"]}, "answerKey": "B"})")); }),
      HasSubstr("t.jsonl, line 7: field `choices.label` is missing"));
  EXPECT_THAT(message_of<Error>([] {
                winogrande(line_of(R"({"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "3"})"));
              }),
              HasSubstr("t.jsonl, line 7: field `answer` is 3, but the 2 choices are 1 to 2"));
}

TEST(Wikitext, CutsPages) {
  const std::string raw = "\n = One = \n\n text \n\n = = Part = = \n more\n = Two = \n end\n";
  EXPECT_THAT(wikitext_pages(raw), ElementsAre(" = One = \n\n text \n\n = = Part = = \n more", " = Two = \n end\n"));
}

TEST(Wikitext, Detokenizes) {
  EXPECT_EQ(wikitext_detokenize(" = One = \n it 's 10 @,@ 000 ( a b ) , \" x \" . \n = = P = = \n 5 @-@ N ° C"),
            " = One =\nit's 10,000 (a b), \"x\".\n== P ==\n5-N°C");
  EXPECT_EQ(count_words(" = One =  \n x "), 6);
}

}  // namespace
}  // namespace pq::tasks
