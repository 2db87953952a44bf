#include "program/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "program/command_line.h"
#include "program/verb_list.h"

namespace pq {
namespace {

using testing::HasSubstr;

Program small_program() {
  const Verb verb{"run", [](CLI::App& app, const CommonOptions&) -> Action {
                    auto text = std::make_shared<std::string>();
                    app.add_option("MODEL", *text);
                    app.add_option("-p,--prompt", *text, "It's [a]: text")->option_text("TEXT");
                    app.add_option("--attention", *text, "How")->option_text("float32|packed (default float32)");
                    app.add_option("--template", *text, "Which")->option_text("FILE|NAME");
                    return [text] { return 0; };
                  }};
  return {"pq", false, {verb}, {}, {}, {}};
}

TEST(Completion, RowsAreTheFlagsOfTheVerbs) {
  const std::vector<FlagRow> rows = flag_rows(small_program());
  ASSERT_GE(rows.size(), 7U);
  EXPECT_THAT(rows, testing::Contains(FlagRow{"run", "--prompt", "-p", true, {}, "It's [a]: text"}));
  EXPECT_THAT(rows, testing::Contains(FlagRow{"run", "--attention", "", true, {"float32", "packed"}, "How"}));
  EXPECT_THAT(rows, testing::Contains(FlagRow{"run", "--template", "", true, {}, "Which"}));
  EXPECT_THAT(rows, testing::Contains(testing::Field(&FlagRow::name, "--json")));
  EXPECT_EQ(parse_flag_table(flag_table(rows)), rows);
  EXPECT_TRUE(parse_flag_table("no table\n\n").empty());
}

TEST(Completion, ScriptsHoldEveryVerbAndFlag) {
  const std::vector<FlagRow> rows = flag_rows(small_program());
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = completion_script(shell, rows);
    for (const VerbRow& verb : verbs()) EXPECT_THAT(script, HasSubstr(verb.name)) << shell;
    for (const FlagRow& row : rows) EXPECT_THAT(script, HasSubstr(row.name.substr(2))) << shell;
    EXPECT_THAT(script, HasSubstr("float32 packed")) << shell;
  }
  EXPECT_THAT(completion_script("zsh", rows), HasSubstr(R"('*--prompt[It'\''s \[a\]\: text]:value:_files')"));
  EXPECT_THAT(completion_script("fish", rows), HasSubstr(R"(-l prompt -s p -r -d 'It\'s [a]: text')"));
  EXPECT_THROW(completion_script("csh", rows), InputError);
}

}  // namespace
}  // namespace pq
