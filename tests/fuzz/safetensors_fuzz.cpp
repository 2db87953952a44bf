// Any bytes as a safetensors file: they are refused with an error, or every tensor's view can be read to its end.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const pq::io::SafetensorsFile file(std::as_bytes(std::span(data, size)), "fuzz");
    std::size_t covered = 0;
    bool all_known = true;
    for (const std::string& name : file.names()) {
      try {
        const pq::io::TensorView view = file.tensor(name);
        const auto count = pq::io::element_count(view.shape);
        if (!count || *count != view.size()) std::abort();
        covered += view.bytes.size();
        unsigned sum = 0;
        for (const std::byte byte : view.bytes) sum += std::to_integer<unsigned>(byte);
        if (sum == 0xffffffffU) std::abort();  // so that the reads are not optimized away
        if (!pq::io::is_floating(view.dtype)) continue;
        std::vector<float> values(view.bytes.size() / pq::io::dtype_size(view.dtype));
        pq::io::to_float32(view, values);
      } catch (const pq::UnsupportedError&) {
        all_known = false;
      }
    }
    if (all_known && covered > size) std::abort();  // tensors would overlap
  } catch (const pq::FormatError&) {
    return 0;
  }
  return 0;
}
