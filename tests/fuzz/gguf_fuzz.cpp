// Any bytes as a GGUF file: they are refused with an error, or every tensor can be read to its end and the texts of the
// model can be made.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/gguf_checkpoint.h"
#include "io/gguf_file.h"
#include "io/hf_config.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void read_tensors(const pq::io::GgufFile& file, std::size_t size) {
  std::size_t covered = 0;
  for (const std::string& name : file.tensor_names()) {
    const pq::io::TensorView view = file.tensor(name);
    const auto count = pq::io::element_count(view.shape);
    if (!count || *count != view.size()) std::abort();
    covered += view.bytes.size();
    if (!pq::io::is_floating(view.dtype)) continue;
    std::vector<float> values(static_cast<std::size_t>(view.size()));
    pq::io::to_float32(view, values);
  }
  if (covered > size) std::abort();  // tensors would overlap
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    std::vector<pq::io::GgufFile> parts;
    parts.emplace_back(std::as_bytes(std::span(data, size)), "fuzz");
    read_tensors(parts.front(), size);
    const pq::io::GgufCheckpoint checkpoint = pq::io::gguf_checkpoint(std::move(parts), "fuzz");
    try {
      pq::Tokenizer::load(checkpoint.texts).encode("abc <e> d", true);
    } catch (const pq::Error&) {
    }
    pq::io::parse_config(checkpoint.texts.json("config.json"), "fuzz");
    for (const std::string& name : checkpoint.tensors->names()) {
      const pq::io::TensorView view = checkpoint.tensors->tensor(name);
      if (!pq::io::is_floating(view.dtype) || view.rope_pairs == 0 || view.shape.empty()) continue;
      if (view.rope_pairs % 2 != 0 || view.shape[0] % view.rope_pairs != 0) continue;  // the shape check comes before
      std::vector<float> values(static_cast<std::size_t>(view.size()));
      pq::io::to_float32(view, values);
    }
  } catch (const pq::Error&) {
  }
  return 0;
}
