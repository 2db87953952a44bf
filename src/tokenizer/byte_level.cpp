#include "tokenizer/byte_level.h"

#include "text/unicode.h"

namespace pq {
namespace {

constexpr char32_t code_point_end = 0x144;

std::array<char32_t, 256> make_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters[byte] = printable ? static_cast<char32_t>(byte) : next++;
  }
  return characters;
}

std::array<std::string, 256> make_encoded() {
  std::array<std::string, 256> encoded;
  for (std::size_t byte = 0; byte < 256; ++byte) append_utf8(encoded[byte], byte_level_characters()[byte]);
  return encoded;
}

std::array<std::int16_t, code_point_end> make_bytes() {
  std::array<std::int16_t, code_point_end> bytes{};
  bytes.fill(-1);
  for (std::size_t byte = 0; byte < 256; ++byte) bytes[byte_level_characters()[byte]] = static_cast<std::int16_t>(byte);
  return bytes;
}

}  // namespace

const std::array<char32_t, 256>& byte_level_characters() {
  static const std::array<char32_t, 256> characters = make_characters();
  return characters;
}

void append_byte_level(std::string& out, std::string_view text) {
  static const std::array<std::string, 256> encoded = make_encoded();
  for (const char c : text) out += encoded[static_cast<unsigned char>(c)];
}

void append_byte_level_bytes(std::string& out, std::string_view token) {
  static const std::array<std::int16_t, code_point_end> bytes = make_bytes();
  const std::size_t before = out.size();
  for (std::string_view rest = token; !rest.empty(); rest.remove_prefix(utf8_length(rest[0]))) {
    const char32_t c = first_code_point(rest);
    if (c >= code_point_end || bytes[c] < 0) {
      out.resize(before);
      out += token;
      return;
    }
    out.push_back(static_cast<char>(static_cast<unsigned char>(bytes[c])));
  }
}

}  // namespace pq
