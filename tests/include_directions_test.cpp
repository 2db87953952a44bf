// Holds every #include under src/ to the direction in which the folders may depend on each other (ARCHITECTURE.md).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/files.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

/// Folder -> the folders it builds on directly; it may include those and all that they may include.
const std::map<std::string, std::set<std::string>> direct_dependencies{
    {"base", {}},
    {"report", {"base"}},
    {"text", {"base"}},
    {"jinja", {"text"}},
    {"tokenizer", {"text"}},
    {"generation", {"jinja", "tokenizer"}},
    {"numerics", {"base"}},
    {"kernels", {"numerics"}},
    {"model", {"numerics"}},
    {"program", {"model"}},
    {"io", {"model", "text"}},
    {"exchange", {"io", "tokenizer"}},
    {"runtime", {"io", "kernels"}},
    {"eval", {"model", "tokenizer"}},
    {"tasks", {"eval", "io", "jinja"}},
    {"verify", {"runtime", "eval"}},
    {"measure", {"runtime", "generation"}},
    {"nn", {"io"}},
    {"quant", {"nn"}},
    {"tuning", {"quant"}},
    {"pipeline", {"tuning", "eval", "tokenizer", "report", "runtime"}},
    {"cli", {"program", "report", "generation", "verify", "measure", "tasks", "exchange"}},
    {"lab", {"program", "report", "pipeline", "tasks"}},
};
const std::set<std::string> libtorch_folders{"nn", "quant", "tuning", "pipeline", "lab"};

std::set<std::string> reachable(const std::string& folder) {
  std::set<std::string> all{folder};
  for (const std::string& next : direct_dependencies.at(folder)) all.merge(reachable(next));
  return all;
}

/// "nn/block.h", relative to src/, of every source.
std::vector<std::string> source_files() {
  const fs::path source = fs::path(PQ_SOURCE_DIR) / "src";
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(source)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".h" || extension == ".cpp" || extension == ".inl")
      files.push_back(fs::relative(entry.path(), source).string());
  }
  return files;
}

std::string read_source(const std::string& file) { return read_text_file(fs::path(PQ_SOURCE_DIR) / "src" / file); }

/// What `text` includes in quotes.
std::vector<std::string> quoted_includes(const std::string& text) {
  static const std::regex include_line(R"re((?:^|\n)\s*#\s*include\s*"([^"\n]+)")re");
  std::vector<std::string> headers;
  for (auto at = std::sregex_iterator(text.begin(), text.end(), include_line); at != std::sregex_iterator(); ++at)
    headers.push_back((*at)[1]);
  return headers;
}

/// Rows of the table that say more than the sources do. `used`: folder -> the folders that it includes.
std::vector<std::string> idle_rows(const std::map<std::string, std::set<std::string>>& table,
                                   const std::map<std::string, std::set<std::string>>& used) {
  std::vector<std::string> found;
  for (const auto& [folder, direct] : table) {
    const auto row = used.find(folder);
    if (row == used.end()) {
      found.push_back(fmt::format("{}: there is no such folder", folder));
      continue;
    }
    for (const std::string& lower : direct) {
      if (!row->second.contains(lower)) found.push_back(fmt::format("{}: no file of it includes {}", folder, lower));
    }
  }
  return found;
}

std::string unit_of(const std::string& file) { return file.substr(0, file.rfind('.')); }

/// What is wrong with the includes of `file` ("nn/block.h", relative to src/), one line each.
std::vector<std::string> violations(const std::string& file, const std::string& text) {
  static const std::regex include_line(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  const std::string folder = file.substr(0, file.find('/'));
  if (!direct_dependencies.contains(folder))
    return {fmt::format("{}: the folder is not in the table of this test", file)};
  const std::set<std::string> allowed = reachable(folder);
  std::vector<std::string> found;
  std::istringstream lines(text);
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (!std::regex_search(line, match, include_line)) continue;
    const bool quoted = match[1] == "\"";
    const std::string header = match[2];
    const std::string root = header.substr(0, header.find('/'));
    if (quoted && header.find('/') == std::string::npos) {
      found.push_back(fmt::format("{}: \"{}\" does not name its folder", file, header));
    } else if (quoted && !direct_dependencies.contains(root)) {
      found.push_back(fmt::format("{}: \"{}\" is in no folder of src/", file, header));
    } else if (quoted && !allowed.contains(root)) {
      found.push_back(fmt::format("{}: {} may not include {}", file, folder, header));
    } else if (!quoted && std::set<std::string>{"ATen", "torch", "c10", "caffe2"}.contains(root) &&
               !libtorch_folders.contains(folder)) {
      found.push_back(fmt::format("{}: {} may not include LibTorch ({})", file, folder, header));
    }
  }
  return found;
}

TEST(IncludeDirections, HoldForEverySource) {
  const std::vector<std::string> files = source_files();
  for (const std::string& file : files) EXPECT_THAT(violations(file, read_source(file)), testing::IsEmpty());
  EXPECT_GT(files.size(), 50U);
}

TEST(IncludeDirections, TheTableHasNoRightsThatNobodyUses) {
  std::map<std::string, std::set<std::string>> used;
  for (const std::string& file : source_files()) {
    auto& row = used[file.substr(0, file.find('/'))];
    for (const std::string& header : quoted_includes(read_source(file))) row.insert(header.substr(0, header.find('/')));
  }
  EXPECT_THAT(idle_rows(direct_dependencies, used), testing::IsEmpty());

  EXPECT_THAT(idle_rows({{"a", {}}, {"b", {"a"}}, {"c", {"a", "b"}}}, {{"a", {}}, {"b", {"a", "b"}}, {"c", {"b"}}}),
              testing::ElementsAre("c: no file of it includes a"));
  EXPECT_THAT(idle_rows({{"a", {}}, {"b", {"a"}}}, {{"a", {}}}), testing::ElementsAre("b: there is no such folder"));
}

TEST(IncludeDirections, TheFoldersHaveAnOrder) {
  for (const auto& [folder, direct] : direct_dependencies) {
    for (const std::string& lower : direct)
      EXPECT_FALSE(reachable(lower).contains(folder)) << folder << " and " << lower;
  }
}

/// "a includes b includes a" for the first circle among the files, a file being its header and its source; empty where
/// there is none. `includes`: file -> the files that it includes.
std::string circle_in(const std::map<std::string, std::set<std::string>>& includes) {
  std::set<std::string> done;
  std::vector<std::string> path;
  const std::function<std::string(const std::string&)> visit = [&](const std::string& file) -> std::string {
    if (done.contains(file)) return {};
    if (std::find(path.begin(), path.end(), file) != path.end()) {
      return fmt::format("{} includes {}", fmt::join(path, " includes "), file);
    }
    path.push_back(file);
    if (const auto row = includes.find(file); row != includes.end()) {
      for (const std::string& next : row->second) {
        if (std::string circle = visit(next); !circle.empty()) return circle;
      }
    }
    path.pop_back();
    done.insert(file);
    return {};
  };
  for (const auto& [file, unused] : includes) {
    if (std::string circle = visit(file); !circle.empty()) return circle;
  }
  return {};
}

TEST(IncludeDirections, TheFilesHaveAnOrder) {
  std::map<std::string, std::set<std::string>> includes;
  for (const std::string& file : source_files()) {
    if (file.ends_with("_test.cpp") || file.ends_with("_for_test.h")) continue;
    const std::string unit = unit_of(file);
    for (const std::string& header : quoted_includes(read_source(file))) {
      if (unit_of(header) != unit) includes[unit].insert(unit_of(header));
    }
  }
  EXPECT_EQ(circle_in(includes), "");

  EXPECT_EQ(circle_in({{"a", {"b", "c"}}, {"b", {"c"}}, {"c", {}}}), "");
  EXPECT_EQ(circle_in({{"a", {"b"}}, {"b", {"c"}}, {"c", {"b"}}}), "a includes b includes c includes b");
}

TEST(IncludeDirections, ViolationsAreSeen) {
  const struct {
    std::string file;
    std::string line;
    std::string complaint;
  } rows[] = {
      {"base/x.h", "#include \"model/recipe.h\"", "base/x.h: base may not include model/recipe.h"},
      {"eval/x.cpp", "  #  include \"nn/block.h\"", "eval/x.cpp: eval may not include nn/block.h"},
      {"cli/run.cpp", "#include \"quant/pipeline.h\"", "cli/run.cpp: cli may not include quant/pipeline.h"},
      {"tuning/x.cpp", "#include \"runtime/engine.h\"", "tuning/x.cpp: tuning may not include runtime/engine.h"},
      {"cli/run.cpp", "#include <ATen/ATen.h>", "cli/run.cpp: cli may not include LibTorch (ATen/ATen.h)"},
      {"io/x.cpp", "#include <torch/torch.h>", "io/x.cpp: io may not include LibTorch (torch/torch.h)"},
      {"io/x.cpp", "#include \"safetensors.h\"", "io/x.cpp: \"safetensors.h\" does not name its folder"},
      {"io/x.cpp", "#include \"oi/safetensors.h\"", "io/x.cpp: \"oi/safetensors.h\" is in no folder of src/"},
      {"misc/x.cpp", "", "misc/x.cpp: the folder is not in the table of this test"},
  };
  for (const auto& row : rows) EXPECT_THAT(violations(row.file, row.line + "\n"), testing::ElementsAre(row.complaint));

  EXPECT_THAT(
      violations("lab/x.cpp", "#include <ATen/ATen.h>\n#include \"base/error.h\"\n#include \"quant/pipeline.h\"\n"),
      testing::IsEmpty());
}

}  // namespace
}  // namespace pq
