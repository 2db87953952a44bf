#include "base/output_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/files.h"

namespace pq {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

fs::path fresh_directory(const std::string& name) {
  const fs::path path = fs::path(testing::TempDir()) / name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

std::string refusal(const fs::path& out, bool replace = true, const OutputKind& kind = "config.json") {
  try {
    OutputDirectory::check(out, kind, replace);
  } catch (const InputError& error) {
    return error.what();
  }
  return "none";
}

TEST(OutputDirectory, AppearsWholeOrNotAtAll) {
  const fs::path dir = fresh_directory("pq_output");
  const fs::path out = dir / "out";
  {
    OutputDirectory target(out, "config.json", false);
    std::ofstream(target.partial() / "config.json") << "{}";
  }
  EXPECT_FALSE(fs::exists(out));
  EXPECT_FALSE(fs::exists(dir / "out.partial"));
  {
    OutputDirectory target(out, "config.json", false);
    EXPECT_THROW(OutputDirectory(out, "config.json", false), InputError);  // locked by the first
    std::ofstream(target.partial() / "config.json") << "{}";
    target.commit();
  }
  EXPECT_TRUE(fs::exists(out / "config.json"));
  EXPECT_THROW(OutputDirectory(out, "config.json", false), InputError);
  {
    OutputDirectory target(out, "config.json", true);
    std::ofstream(target.partial() / "config.json") << "[]";
    EXPECT_EQ(read_text_file(out / "config.json"), "{}");  // the old one stays until the new one is whole
    target.commit();
  }
  EXPECT_EQ(read_text_file(out / "config.json"), "[]");
  fs::create_directories(dir / "precious");
  std::ofstream(dir / "precious" / "thesis.txt") << "x";
  EXPECT_THROW(OutputDirectory(dir / "precious", "config.json", true), InputError);
}

TEST(OutputDirectory, ADirectoryAboveThatWasMadeGoesToo) {
  const fs::path dir = fresh_directory("pq_output_above");
  { const OutputDirectory target(dir / "a/b/c", "config.json", false); }
  EXPECT_TRUE(fs::is_empty(dir));
  {
    const OutputDirectory target(dir / "a/b/c", "config.json", false);
    std::ofstream(dir / "a" / "of another") << "x";
  }
  EXPECT_TRUE(fs::exists(dir / "a" / "of another"));  // not empty any more
  EXPECT_FALSE(fs::exists(dir / "a" / "b"));
  fs::create_directory(dir / "a" / "b");
  { const OutputDirectory target(dir / "a/b/c", "config.json", false); }
  EXPECT_TRUE(fs::exists(dir / "a" / "b"));  // was there before
  {
    const OutputDirectory target(dir / "d/e", "config.json", false, Unfinished::keep);
    fs::create_directory(target.resume());
    std::ofstream(target.resume() / "block") << "x";
  }
  EXPECT_TRUE(fs::exists(dir / "d" / "e.partial" / "resume" / "block"));
  {
    OutputDirectory target(dir / "f/g", "config.json", false);
    target.commit();
  }
  EXPECT_TRUE(fs::is_directory(dir / "f" / "g"));
}

TEST(OutputDirectory, UnfinishedWorkStaysUntilItIsFinishedOrReplaced) {
  const fs::path dir = fresh_directory("pq_unfinished");
  const fs::path out = dir / "out";
  const fs::path partial = dir / "out.partial";
  const auto error = [&](const std::function<void()>& action) -> std::string {
    try {
      action();
    } catch (const InputError& caught) {
      return caught.what();
    }
    return "none";
  };
  { const OutputDirectory nothing(out, "config.json", false, Unfinished::keep); }
  EXPECT_FALSE(fs::exists(partial));
  {
    const OutputDirectory target(out, "config.json", false, Unfinished::keep);
    EXPECT_FALSE(fs::exists(target.resume()));  // made by whoever has work to save
    fs::create_directories(target.resume());
    std::ofstream(target.partial() / "half") << "x";
  }
  EXPECT_FALSE(fs::exists(partial));  // an empty one holds no work
  {
    const OutputDirectory target(out, "config.json", false, Unfinished::keep);
    fs::create_directories(target.resume() / "deep");
    std::ofstream(target.resume() / "work") << "hours";
    std::ofstream(target.partial() / "half") << "x";
    fs::create_directories(target.partial() / "folder");
    EXPECT_NE(error([&] { OutputDirectory(out, "config.json", false, Unfinished::keep); }).find("another run"),
              std::string::npos);
    EXPECT_NE(error([&] { OutputDirectory(out, "config.json", false); }).find("another run is writing"),
              std::string::npos);
  }
  EXPECT_EQ(read_text_file(partial / "resume" / "work"), "hours");
  EXPECT_TRUE(fs::exists(partial / "resume" / "deep"));
  EXPECT_FALSE(fs::exists(partial / "half"));
  EXPECT_FALSE(fs::exists(partial / "folder"));

  const std::string refusal = partial.string() +
                              ": holds the unfinished work of another run; finish it with the command that began it, "
                              "or remove " +
                              partial.string() + ", which --restart does too";
  EXPECT_EQ(error([&] { OutputDirectory(out, "config.json", false); }), refusal);
  EXPECT_EQ(error([&] { OutputDirectory::check(out, "config.json", false); }), refusal);
  EXPECT_EQ(error([&] { OutputDirectory::check(out / "", "config.json", true); }), refusal);
  EXPECT_EQ(error([&] { OutputDirectory::check(out, "config.json", false, Unfinished::keep); }), "none");
  EXPECT_EQ(error([&] { OutputDirectory::check(out, "config.json", false, Unfinished::discard, true); }), "none");
  EXPECT_EQ(read_text_file(partial / "resume" / "work"), "hours");
  {
    // A killed run's half-written output goes, its work stays.
    std::ofstream(partial / "half") << "x";
    OutputDirectory target(out, "config.json", false, Unfinished::keep);
    EXPECT_FALSE(fs::exists(partial / "half"));
    EXPECT_EQ(read_text_file(target.resume() / "work"), "hours");
    std::ofstream(target.partial() / "config.json") << "{}";
    target.commit();
  }
  EXPECT_FALSE(fs::exists(partial));
  EXPECT_EQ(read_text_file(out / "config.json"), "{}");
  EXPECT_FALSE(fs::exists(out / "resume"));

  for (const Unfinished unfinished : {Unfinished::keep, Unfinished::discard}) {
    fs::create_directories(partial / "resume");
    std::ofstream(partial / "resume" / "work") << "hours";
    const OutputDirectory target(out, "config.json", true, unfinished, true);
    EXPECT_FALSE(fs::exists(partial / "resume"));
  }
  EXPECT_EQ(read_text_file(out / "config.json"), "{}");
}

TEST(OutputDirectory, WhatIsCalledResumeButIsNoFolderIsNoWork) {
  const fs::path dir = fresh_directory("pq_no_work");
  fs::create_directories(dir / "out.partial");
  fs::create_directories(dir / "elsewhere");
  std::ofstream(dir / "elsewhere" / "thesis.txt") << "x";
  fs::create_directory_symlink(dir / "elsewhere", dir / "out.partial" / "resume");
  { const OutputDirectory target(dir / "out", "config.json", false); }
  EXPECT_FALSE(fs::exists(dir / "out.partial"));
  EXPECT_EQ(read_text_file(dir / "elsewhere" / "thesis.txt"), "x");
}

// Before any work: a name that cannot become a directory at the end.
TEST(OutputDirectory, JudgesTheNameItself) {
  const fs::path dir = fresh_directory("pq_output_name");
  EXPECT_EQ(refusal(""), "-o: the output's name is empty; name the directory to write");
  for (const char* name : {".", "..", "/", "./", "a/.."})
    EXPECT_THAT(refusal(name), HasSubstr("is no name for")) << name;
  EXPECT_THAT(refusal(dir / std::string(251, 'n')), HasSubstr("too long"));
  std::ofstream(dir / "file") << "x";
  EXPECT_THAT(refusal(dir / "file" / "out"), AllOf(HasSubstr("cannot be made"), HasSubstr("file is no directory")));
  EXPECT_THAT(refusal(dir / "file"), HasSubstr("is a file and will not be replaced"));
  EXPECT_THAT(refusal(dir / "file", false), HasSubstr("already exists; choose another -o"));  // --force would not help
  EXPECT_THAT(refusal("/proc"), HasSubstr("is a mount point"));
  EXPECT_EQ(refusal(dir / "new" / "deep" / "out"), "none");
  EXPECT_EQ(refusal(dir / "new" / ""), "none");
  if (::geteuid() != 0) {
    ::chmod(dir.c_str(), 0500);
    EXPECT_THAT(refusal(dir / "out"), HasSubstr("cannot be written to"));
    ::chmod(dir.c_str(), 0700);
  }
  EXPECT_EQ(fs::exists(dir / "new"), false);
}

TEST(OutputDirectory, ForceReplacesNothingOfOthers) {
  const fs::path dir = fresh_directory("pq_output_force");
  fs::create_directories(dir / "out");
  std::ofstream(dir / "out" / "config.json") << "{}";
  const OutputKind picky("config.json", [](const fs::path& path) { throw InputError(path.string(), "is precious"); });
  EXPECT_EQ(refusal(dir / "out"), "none");
  EXPECT_THAT(refusal(dir / "out", true, picky), HasSubstr("is precious"));

  // What stands under the names that a run uses meanwhile.
  fs::create_directories(dir / "out.partial");
  std::ofstream(dir / "out.partial" / "thesis.txt") << "x";
  EXPECT_THAT(refusal(dir / "out"), HasSubstr("out.partial: is in the way"));
  fs::remove_all(dir / "out.partial");
  std::ofstream(dir / "out.partial") << "x";
  EXPECT_THAT(refusal(dir / "out"), HasSubstr("out.partial: is in the way"));
  fs::remove(dir / "out.partial");
  fs::create_directories(dir / "out.old");
  std::ofstream(dir / "out.old" / "thesis.txt") << "x";
  {
    OutputDirectory target(dir / "out", "config.json", true);
    std::ofstream(target.partial() / "config.json") << "[]";
    target.commit();
  }
  EXPECT_EQ(read_text_file(dir / "out" / "config.json"), "[]");
  EXPECT_EQ(read_text_file(dir / "out.old" / "thesis.txt"), "x");
  EXPECT_FALSE(fs::exists(dir / "out.old-1"));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir / "out"), {}), 1);
}

TEST(OutputDirectory, LinksAreNeitherFollowedNorReplaced) {
  const fs::path dir = fresh_directory("pq_output_links");
  fs::create_directories(dir / "elsewhere");
  std::ofstream(dir / "elsewhere" / "config.json") << "{}";
  fs::create_directory_symlink(dir / "elsewhere", dir / "link");
  fs::create_directory_symlink(dir / "nowhere", dir / "dangling");
  for (const char* name : {"link", "link/", "dangling"}) {
    EXPECT_THAT(refusal(dir / name), HasSubstr("is a link and will not be replaced")) << name;
  }
  fs::create_directory_symlink(dir / "elsewhere", dir / "out.partial");
  EXPECT_THAT(refusal(dir / "out"), HasSubstr("out.partial: is a link"));
  fs::remove(dir / "out.partial");
  {
    // One that comes up while the work goes on.
    OutputDirectory target(dir / "out", "config.json", true);
    std::ofstream(target.partial() / "config.json") << "[]";
    fs::create_directory_symlink(dir / "elsewhere", dir / "out");
    EXPECT_THROW(target.commit(), InputError);
  }
  EXPECT_EQ(read_text_file(dir / "elsewhere" / "config.json"), "{}");
  EXPECT_TRUE(fs::is_symlink(dir / "out"));
}

TEST(OutputDirectory, ADeadRunsWorkIsRecognised) {
  const fs::path dir = fresh_directory("pq_output_dead");
  fs::create_directories(dir / "out.partial");
  { const OutputDirectory target(dir / "out", "config.json", false); }
  fs::create_directories(dir / "copy");
  {
    const OutputDirectory target(dir / "out", "config.json", false);
    std::ofstream(target.partial() / "half") << "x";
    fs::remove(dir / "copy");
    fs::copy(target.partial(), dir / "copy");
  }
  fs::rename(dir / "copy", dir / "out.partial");
  { const OutputDirectory target(dir / "out", "config.json", false); }
  EXPECT_FALSE(fs::exists(dir / "out.partial"));
}

TEST(Files, AreWrittenBehindLinksAndBesideOthers) {
  const fs::path dir = fresh_directory("pq_atomic_links");
  std::ofstream(dir / "target") << "old";
  std::ofstream(dir / "target.partial") << "someone's";
  fs::create_symlink("target", dir / "link");
  write_file_atomically(dir / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(read_text_file(dir / "target"), "new");
  EXPECT_EQ(read_text_file(dir / "target.partial"), "someone's");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir), {}), 3);
}

}  // namespace
}  // namespace pq
