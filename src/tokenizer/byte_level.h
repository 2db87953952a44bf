#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace pq {

/// GPT-2's printable stand-in for each byte (openai/gpt-2, src/encoder.py, bytes_to_unicode): a code point below 0x144.
const std::array<char32_t, 256>& byte_level_characters();
/// Appends the stand-ins of all bytes of `text`.
void append_byte_level(std::string& out, std::string_view text);
/// Appends the bytes that `token` stands for; a token with a character that stands for none is taken as it is.
void append_byte_level_bytes(std::string& out, std::string_view token);

}  // namespace pq
