#include "kernels/cpu_features.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace pq::kernels {
namespace {

#if defined(__x86_64__)

enum class Register { eax, ebx, ecx, edx };

// Bits of XCR0: the operating system saves the upper halves of ymm; mask registers and all of zmm too.
constexpr std::uint64_t saves_ymm = 0x06;
constexpr std::uint64_t saves_zmm = 0xe6;
// And the matrix tiles, whose use a process has to ask for.
constexpr std::uint64_t saves_tiles = 0x600e6;

struct Feature {
  std::string_view name;
  std::uint32_t leaf;
  std::uint32_t subleaf;
  Register where;
  int bit;
  std::uint64_t saved;
};

constexpr Feature features[] = {
    {"fma", 1, 0, Register::ecx, 12, saves_ymm},        {"f16c", 1, 0, Register::ecx, 29, saves_ymm},
    {"avx2", 7, 0, Register::ebx, 5, saves_ymm},        {"avxvnni", 7, 1, Register::eax, 4, saves_ymm},
    {"avx512f", 7, 0, Register::ebx, 16, saves_zmm},    {"avx512dq", 7, 0, Register::ebx, 17, saves_zmm},
    {"avx512bw", 7, 0, Register::ebx, 30, saves_zmm},   {"avx512vl", 7, 0, Register::ebx, 31, saves_zmm},
    {"avx512vnni", 7, 0, Register::ecx, 11, saves_zmm}, {"avx512bf16", 7, 1, Register::eax, 5, saves_zmm},
    {"amxtile", 7, 0, Register::edx, 24, saves_tiles},  {"amxint8", 7, 0, Register::edx, 25, saves_tiles},
    {"amxbf16", 7, 0, Register::edx, 22, saves_tiles},
};

std::uint64_t saved_registers() {
  constexpr std::uint32_t osxsave = 1U << 27;
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & osxsave) == 0) return 0;
  std::uint32_t low = 0, high = 0;
  // Not the intrinsic: that one wants -mxsave for the whole file.
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<std::uint64_t>(high) << 32 | low;
}

/// Asks the kernel (Linux 5.16 and later) to let this process use the tiles; once granted, for all its threads.
bool tiles_granted() {
#if defined(__linux__)
  constexpr long request_permission = 0x1023;
  constexpr long tile_data = 18;
  static const bool granted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return granted;
#else
  return false;
#endif
}

bool present(const Feature& feature) {
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  if (feature.subleaf > 0) {
    // The highest subleaf of leaf 7 is what its subleaf 0 returns in eax.
    if (__get_cpuid_count(feature.leaf, 0, &a, &b, &c, &d) == 0 || a < feature.subleaf) return false;
  }
  if (__get_cpuid_count(feature.leaf, feature.subleaf, &a, &b, &c, &d) == 0) return false;
  const std::uint32_t values[] = {a, b, c, d};
  if ((values[static_cast<int>(feature.where)] >> feature.bit & 1U) == 0) return false;
  if ((saved_registers() & feature.saved) != feature.saved) return false;
  return feature.saved != saves_tiles || tiles_granted();
}

#elif defined(__aarch64__)

struct Feature {
  std::string_view name;
  unsigned long bit;  // of AT_HWCAP
};

constexpr Feature features[] = {{"asimd", HWCAP_ASIMD}, {"asimdhp", HWCAP_ASIMDHP}, {"asimddp", HWCAP_ASIMDDP}};

bool present(const Feature& feature) { return (getauxval(AT_HWCAP) & feature.bit) != 0; }

#else

struct Feature {
  std::string_view name;
};

constexpr Feature features[] = {{""}};

bool present(const Feature&) { return false; }

#endif

const Feature* find(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(features), std::end(features), [&](const Feature& f) { return f.name == name; });
  return found == std::end(features) ? nullptr : found;
}

}  // namespace

bool known_feature(std::string_view name) { return find(name) != nullptr; }

bool has_feature(std::string_view name) {
  const Feature* feature = find(name);
  return feature != nullptr && present(*feature);
}

std::string missing_feature(std::string_view names, FeatureTest has) {
  while (!names.empty()) {
    const std::string_view name = names.substr(0, names.find(' '));
    if (!name.empty() && !has(name)) return std::string(name);
    names.remove_prefix(std::min(names.size(), name.size() + 1));
  }
  return {};
}

}  // namespace pq::kernels
