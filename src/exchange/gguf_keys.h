#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exchange/gguf_writer.h"
#include "io/gguf_metadata.h"
#include "model/model_spec.h"

namespace pq::exchange {

/// The architecture whose files a model of this family becomes. Throws UnsupportedError where GGUF has none.
const io::GgufArchitecture& architecture_for(const ModelSpec& spec, std::string_view where);

/// What GGUF says of an architecture beside its tensors.
struct ArchitectureKeys {
  std::vector<float> rope_factors;  ///< of rope_freqs.weight, what frequencies are divided by; empty: no such tensor
  std::vector<std::string> notes;   ///< what the file does not say, for people
};

/// Adds the keys of an architecture (`llama.block_count` ..): the inverse of io/gguf_config.h. Throws UnsupportedError
/// naming the part that llama.cpp computes in another way.
ArchitectureKeys add_architecture(GgufKeys& keys, const ModelSpec& spec, const io::GgufArchitecture& architecture,
                                  std::string_view where);

/// Holds a model that was read back against the one that was written: all that decides what tokens are computed to,
/// numbers to float32's precision. `windows_dropped`: the file does not speak of them. Throws std::logic_error with the
/// first field that differs.
void compare_specs(const ModelSpec& spec, const ModelSpec& written, bool windows_dropped);

/// Whether the architecture's files leave a sliding window out that the family has, as llama.cpp's own converter does.
bool drops_windows(const ModelSpec& spec, const io::GgufArchitecture& architecture);

}  // namespace pq::exchange
