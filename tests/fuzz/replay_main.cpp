// Runs a fuzz target without libFuzzer: replay SEED_FILE_OR_DIR... ITERATIONS
// Every seed as it is, then ITERATIONS mutated ones, the same on every machine.

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void add_seeds(const std::filesystem::path& path, std::vector<std::string>& seeds) {
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(path)) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    if (!stream && !stream.eof()) {
      std::fprintf(stderr, "%s: cannot be read\n", file.c_str());
      std::exit(2);
    }
  }
}

/// Replaces the first number at or after a random place by a number or value that is often wrong.
void replace_number(std::string& text, pq::Random& random) {
  static constexpr std::string_view numbers[] = {
      "0",     "-1",  "1",    "255",   "2147483648", "4294967296", "18446744073709551615", "99999999999999999999",
      "1e308", "1.5", "null", "\"x\"", "[]",         "{}"};
  std::size_t begin = random.below(text.size());
  while (begin < text.size() && std::isdigit(static_cast<unsigned char>(text[begin])) == 0) ++begin;
  std::size_t end = begin;
  while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end])) != 0) ++end;
  if (end > begin) text.replace(begin, end - begin, numbers[random.below(std::size(numbers))]);
}

void mutate(std::string& text, const std::vector<std::string>& seeds, pq::Random& random) {
  if (text.empty()) text = " ";
  const std::size_t at = random.below(text.size());
  const std::size_t length = 1 + random.below(std::min<std::size_t>(text.size() - at, 64));
  switch (random.below(7)) {
    case 0:
      text[at] = static_cast<char>(static_cast<unsigned char>(text[at]) ^ (1U << random.below(8)));
      break;
    case 1:
      text[at] = static_cast<char>(static_cast<unsigned char>(random.below(256)));
      break;
    case 2:
      text.resize(at);
      break;
    case 3:
      text.erase(at, length);
      break;
    case 4:
      text.insert(random.below(text.size()), text.substr(at, length));
      break;
    case 5: {
      const std::string& other = seeds[random.below(seeds.size())];
      if (other.empty()) break;
      const std::size_t from = random.below(other.size());
      text.replace(at, length, other.substr(from, 1 + random.below(128)));
      break;
    }
    default:
      replace_number(text, random);
      break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s SEED_FILE_OR_DIR... ITERATIONS\n", argv[0]);
    return 2;
  }
  std::vector<std::string> seeds;
  for (int i = 1; i + 1 < argc; ++i) add_seeds(argv[i], seeds);
  if (seeds.empty()) {
    std::fprintf(stderr, "no seed files\n");
    return 2;
  }
  const auto run = [](const std::string& text) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  };
  for (const std::string& seed : seeds) run(seed);
  const long iterations = std::atol(argv[argc - 1]);
  pq::Random random(0, "replay");
  for (long i = 0; i < iterations; ++i) {
    std::string text = seeds[random.below(seeds.size())];
    for (std::uint64_t count = 1 + random.below(4); count > 0; --count) mutate(text, seeds, random);
    run(text);
  }
  std::printf("%zu seeds and %ld mutations\n", seeds.size(), iterations);
  return 0;
}
