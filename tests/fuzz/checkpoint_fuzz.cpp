// Any bytes as a quantized checkpoint (config.json, a zero byte, model.safetensors) through the runtime: they are
// refused with an error, or the model runs.

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/session.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

const std::filesystem::path& directory() {
  static const struct Scratch {
    std::filesystem::path path = std::filesystem::temp_directory_path() / ("pq_fuzz_" + std::to_string(::getpid()));
    Scratch() { std::filesystem::create_directories(path); }
    ~Scratch() { std::filesystem::remove_all(path); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
  } scratch;
  return scratch.path;
}

void write(const char* name, const std::uint8_t* begin, const std::uint8_t* end) {
  std::ofstream file(directory() / name, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(begin), end - begin);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::uint8_t* const end = data + size;
  const std::uint8_t* const zero = std::find(data, end, std::uint8_t{0});
  write("config.json", data, zero);
  write("model.safetensors", zero == end ? end : zero + 1, end);
  try {
    const auto model = pq::runtime::Model::load(directory().string(), {});
    pq::runtime::Session session(model, 16);
    std::vector<std::int32_t> tokens;
    for (std::int32_t i = 0; i < 5; ++i) tokens.push_back(i % static_cast<std::int32_t>(model->spec().vocab_size));
    session.append(tokens);
    session.append({tokens.data(), 1});
    session.logits();
  } catch (const pq::Error&) {
    return 0;
  } catch (const std::bad_alloc&) {
    return 0;  // a size that no machine has
  }
  return 0;
}
