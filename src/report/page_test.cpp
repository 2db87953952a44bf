#include "report/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/error_for_test.h"
#include "base/files.h"
#include "report/gallery_for_test.h"
#include "report/report_file.h"

namespace pq::report {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Page, HoldsItsPartsAndLoadsNothing) {
  const std::string html = to_html(sample_page());
  EXPECT_THAT(html, HasSubstr("content=\"default-src 'none'; style-src 'sha256-"));
  EXPECT_THAT(html, HasSubstr("<h1><bdi>prefixquant: sample &lt;model&gt; &amp; \\u{202e}</bdi></h1>"));
  EXPECT_THAT(html, HasSubstr("<li><a href=\"#layers\"><bdi>Which layers hurt</bdi></a></li>"));
  EXPECT_THAT(html, HasSubstr("<div class=\"picker\" data-label=\"Block\" data-first=\"2\">"));
  EXPECT_THAT(html, HasSubstr("<div class=\"choice\" id=\"blocks-3\" data-name=\"block 3\">"));
  for (const char* part : {"http:", "https:", "src=\"", "@import", "url(", "style=\"", "<link", "onclick", "<img"})
    EXPECT_THAT(html, Not(HasSubstr(part)));
}

TEST(Page, CopiesTextsAsTheyAre) {
  const std::string html = to_html(Page{"t", "f", {{"s", "S", {Code{"a <b>\n  c"}}}}});
  EXPECT_THAT(html, HasSubstr("<pre tabindex=\"0\">a &lt;b&gt;\n  c</pre>"));
}

TEST(Page, RefusesIdsThatAreTakenOrNone) {
  EXPECT_THROW(to_html(Page{"t", "f", {{"s", "S", {}}, {"s", "S", {}}}}), std::logic_error);
  EXPECT_THROW(to_html(Page{"t", "f", {{"\"><", "S", {}}}}), std::logic_error);
  EXPECT_THROW(to_html(Page{"t", "f", {{"main", "S", {}}}}), std::logic_error);
  EXPECT_NO_THROW(to_html(Page{"t", "f", {{"s", "S", {}}}}));
}

/// What SmolLM2-135M's page may take is 3 MB for 30 blocks.
TEST(Page, OfThirtyBlocksIsSmall) { EXPECT_LT(to_html(sample_page(30)).size(), 2'000'000U); }

class ReportFile : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / fmt::format("pq-report-{}", ::getpid());
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  fs::path directory_;
};

std::string refusal(const fs::path& path, bool replace = false) {
  return message_of<InputError>([&] { check_report_path(path, replace); });
}

TEST_F(ReportFile, IsWrittenWholeAndReplacedOnlyWhenAsked) {
  const fs::path path = directory_ / "r.html";
  check_report_path(path, false);
  EXPECT_FALSE(fs::exists(path));
  write_report(path, "one", false);
  EXPECT_THAT(refusal(path), AllOf(HasSubstr("r.html: already exists"), HasSubstr("--force")));
  EXPECT_THROW(write_report(path, "two", false), InputError);
  EXPECT_EQ(read_whole_file(path), "one");
  write_report(path, "two", true);
  EXPECT_EQ(read_whole_file(path), "two");
}

TEST_F(ReportFile, RefusesPlacesThatTakeNone) {
  EXPECT_THAT(refusal(""), HasSubstr("-o: the report's name is empty"));
  EXPECT_THAT(refusal(directory_, true), HasSubstr("is a directory"));
  EXPECT_THAT(refusal("/dev/null", true), HasSubstr("is no ordinary file"));
  EXPECT_THAT(refusal(directory_ / "no" / "r.html"), HasSubstr("is no directory"));
  EXPECT_THAT(refusal(directory_ / std::string(250, 'x')), HasSubstr("the name is too long"));
  fs::create_symlink(directory_ / "nowhere", directory_ / "link");
  EXPECT_THAT(refusal(directory_ / "link", true), HasSubstr("is a link that leads nowhere"));
  if (::geteuid() == 0) return;  // who may write everywhere
  fs::permissions(directory_, fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_THAT(refusal(directory_ / "r.html"), HasSubstr("cannot be written to"));
  fs::permissions(directory_, fs::perms::owner_all);
}

TEST_F(ReportFile, FiguresGoToADirectory) {
  const Page page = sample_page(1);
  const fs::path figures = directory_ / "figures";
  check_figure_directory(figures);
  write_figures(figures, figures_of(page), false);
  EXPECT_THAT(read_whole_file(figures / "pareto.svg"), HasSubstr("<svg xmlns="));
  const std::string message = message_of<InputError>([&] { write_figures(figures, figures_of(page), false); });
  EXPECT_THAT(message, HasSubstr("already exists"));
  write_figures(figures, figures_of(page), true);
  EXPECT_THAT(message_of<InputError>([&] { check_figure_directory(figures / "a" / "b"); }),
              HasSubstr("is no directory"));
  EXPECT_THAT(message_of<InputError>([&] { check_figure_directory(figures / "pareto.svg"); }),
              HasSubstr("is no directory"));
}

}  // namespace
}  // namespace pq::report
