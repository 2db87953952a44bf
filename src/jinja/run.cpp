#include "jinja/run.h"

#include <fmt/format.h>

#include "base/error.h"

namespace pq::jinja {
namespace {

constexpr std::size_t max_spent = std::size_t{1} << 26;
constexpr int max_levels = 400;

}  // namespace

void Run::spend(std::size_t units) {
  if (units > max_spent || spent_ > max_spent - units)
    unsupported("the template needs more steps or memory than a chat template should");
  spent_ += units;
}

void Run::fail(std::string_view what) const {
  throw InputError(fmt::format("{}, line {}", where_, line), what,
                   "change the messages, or choose another template with --chat-template");
}

void Run::unsupported(std::string_view what) const {
  throw UnsupportedError(fmt::format("{}, line {}", where_, line), what,
                         "choose another template with --chat-template");
}

Run::Level::Level(Run& run) : run_(run) {
  if (run.depth_ >= max_levels) run.unsupported("the template or its input is nested too deep");
  ++run.depth_;
}

}  // namespace pq::jinja
