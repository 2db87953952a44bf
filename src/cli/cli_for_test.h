#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/files.h"

namespace pq {

namespace fs = std::filesystem;

inline const std::string program = std::string(PQ_BINARY_DIR) + "/pq";
inline const std::string sample = std::string(PQ_SOURCE_DIR) + "/examples/sample-model";

struct Outcome {
  int status;  ///< as waitpid gives it
  std::string out;
  std::string error;
  int code() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }
};

class Cli : public testing::Test {
 protected:
  Cli() : folder_(fs::path(testing::TempDir()) / fmt::format("pq_cli_{}", ::getpid())) {
    fs::create_directories(folder_);
  }
  ~Cli() override { fs::remove_all(folder_); }
  Cli(const Cli&) = delete;
  Cli& operator=(const Cli&) = delete;

  /// Starts `program` with stdin from `input_fd`, stdout and stderr into files of folder_.
  pid_t start(const std::vector<std::string>& arguments, int input_fd, const std::string& executable = program) const {
    std::vector<std::string> words = arguments;
    words.insert(words.begin(), executable);
    std::vector<char*> argv;
    std::transform(words.begin(), words.end(), std::back_inserter(argv), [](std::string& word) { return word.data(); });
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(input_fd, STDIN_FILENO);
      ::dup2(::open((folder_ / "out").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), STDOUT_FILENO);
      ::dup2(::open((folder_ / "error").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), STDERR_FILENO);
      ::execv(executable.c_str(), argv.data());
      ::_exit(127);
    }
    return child;
  }

  Outcome finish(pid_t child) const {
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return {status, read_text_file(folder_ / "out"), read_text_file(folder_ / "error")};
  }

  Outcome run(const std::vector<std::string>& arguments, const std::string& input = {},
              const std::string& executable = program) const {
    std::ofstream(folder_ / "in") << input;
    const int input_fd = ::open((folder_ / "in").c_str(), O_RDONLY | O_CLOEXEC);
    const Outcome outcome = finish(start(arguments, input_fd, executable));
    ::close(input_fd);
    return outcome;
  }

  fs::path folder_;
};

}  // namespace pq
