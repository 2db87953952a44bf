#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

// Any bytes give a tokenizer or a pq::Error, and so does everything asked of that tokenizer. Other exceptions escape
// and end the program.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::string_view known_text =
      "<s> Hello, wörld's  12345 [X]\r\n\t日本 e\xCC\x81 \xF0\x9F\xA6\x99 he he</s>";
  try {
    const auto tokenizer =
        pq::Tokenizer::parse(std::string_view(reinterpret_cast<const char*>(data), size), "fuzzed tokenizer.json");
    std::vector<std::int32_t> ids;
    try {
      ids = tokenizer.encode(known_text, true);
    } catch (const pq::Error&) {
      // An unknown character without its unk_token, or a regex that needs too many steps: the rest must still work.
    }
    for (const std::int32_t id : {-1, 0, 1, 7, 300, 1 << 30}) ids.push_back(id);
    for (const bool skip : {false, true}) {
      tokenizer.decode(ids, skip);
      pq::StreamDecoder stream(tokenizer, skip);
      for (const std::int32_t id : ids) stream.push(id);
      stream.finish();
    }
    for (const std::int32_t id : ids) tokenizer.token_text(id);
    if (tokenizer.vocab_size() > (std::size_t{1} << 22)) std::abort();
  } catch (const pq::Error&) {
  }
  return 0;
}
