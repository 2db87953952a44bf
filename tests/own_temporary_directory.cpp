// Part of every test program: a temporary directory of its own, gone when the program ends, so that two runs on one
// machine, of whoever, never meet in a file. Death tests run the program again: theirs lies in the first one's.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace {

class OwnTemporaryDirectory {
 public:
  OwnTemporaryDirectory() {
    path_ = (std::filesystem::temp_directory_path() / "pq_test_XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) {
      std::perror(path_.c_str());
      std::exit(2);
    }
    ::setenv("TMPDIR", path_.c_str(), 1);               // std::filesystem::temp_directory_path()
    ::setenv("TEST_TMPDIR", (path_ + "/").c_str(), 1);  // testing::TempDir()
  }

  ~OwnTemporaryDirectory() {
    std::error_code code;
    if (::getpid() == owner_) std::filesystem::remove_all(path_, code);
  }

  OwnTemporaryDirectory(const OwnTemporaryDirectory&) = delete;
  OwnTemporaryDirectory& operator=(const OwnTemporaryDirectory&) = delete;

 private:
  std::string path_;
  pid_t owner_ = ::getpid();
};

const OwnTemporaryDirectory own_temporary_directory;

}  // namespace
