#include "io/content_hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <new>
#include <vector>

#include "base/mapped_file.h"
#include "base/parallel_for.h"

namespace pq::io {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are hashed as they stand in memory");

std::string hex(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

}  // namespace

std::string content_hash(std::span<const std::byte> bytes) { return hex(::XXH3_64bits(bytes.data(), bytes.size())); }

std::string content_hash_of_file(const std::filesystem::path& path) { return content_hash(MappedFile(path).bytes()); }

ContentHasher::ContentHasher() : state_(::XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  ::XXH3_64bits_reset(state_);
}

ContentHasher::~ContentHasher() { ::XXH3_freeState(state_); }

void ContentHasher::add(std::span<const std::byte> bytes) { ::XXH3_64bits_update(state_, bytes.data(), bytes.size()); }

void ContentHasher::add_text(std::string_view text) {
  const std::uint64_t length = text.size();
  add(std::as_bytes(std::span(&length, 1)));
  add(std::as_bytes(std::span(text)));
}

std::string ContentHasher::digits() const { return hex(::XXH3_64bits_digest(state_)); }

std::string checkpoint_hash(const HfCheckpoint& checkpoint) {
  constexpr std::size_t piece_bytes = std::size_t{64} << 20;  // so that one large tensor occupies all threads
  ContentHasher hasher;
  hasher.add_text(checkpoint.config().dump(-1, ' ', false, Json::error_handler_t::replace));
  std::vector<std::span<const std::byte>> pieces;
  for (const TensorDeclaration& declaration : required_tensors(checkpoint.spec())) {
    const TensorView view = checkpoint.tensor(declaration.name, declaration.shape);
    hasher.add_text(view.name);
    hasher.add_text(dtype_name(view.dtype));
    hasher.add_text(shape_text(view.shape));
    for (auto rest = view.bytes; !rest.empty(); rest = rest.subspan(std::min(rest.size(), piece_bytes))) {
      pieces.push_back(rest.first(std::min(rest.size(), piece_bytes)));
    }
  }
  std::vector<std::uint64_t> hashes(pieces.size());
  parallel_for(pieces.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) hashes[i] = ::XXH3_64bits(pieces[i].data(), pieces[i].size());
  });
  hasher.add(std::as_bytes(std::span(hashes)));
  return hasher.digits();
}

}  // namespace pq::io
