#include "tuning/stream_place.h"

#include <c10/util/accumulate.h>

#include <memory>

#include "base/communicator.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "base/progress.h"
#include "base/scratch_file.h"

namespace pq::quant {

StreamPlace StreamPlace::choose(std::uint64_t bytes, const std::filesystem::path& asked,
                                const std::filesystem::path& fallback) {
  const std::string size = format_bytes(static_cast<double>(bytes));
  if (!asked.empty()) {
    log_info("activation streams: {} in mapped files in {}", size, asked.string());
    return StreamPlace(asked);
  }
  // The processes of a machine choose at the same time.
  const std::uint64_t available = available_bytes() / static_cast<std::uint64_t>(Communicator::world().local_size());
  const std::string room = format_bytes(static_cast<double>(available));
  if (bytes <= available / 2) {
    log_info("activation streams: {} in memory, of {} free", size, room);
    return {};
  }
  log_info("activation streams: {} in mapped files in {}, because only {} of memory are free", size, fallback.string(),
           room);
  return StreamPlace(fallback);
}

at::Tensor StreamPlace::allocate(at::IntArrayRef shape) const {
  const auto floats = at::TensorOptions().dtype(at::kFloat);
  const auto bytes = static_cast<std::uint64_t>(c10::multiply_integers(shape)) * sizeof(float);
  if (!on_disk() || bytes == 0) return at::empty(shape, floats);
  auto file = std::make_shared<ScratchFile>(directory_, bytes);
  void* data = file->bytes().data();
  return at::from_blob(
      data, shape, [file](void*) mutable { file.reset(); }, floats);
}

}  // namespace pq::quant
