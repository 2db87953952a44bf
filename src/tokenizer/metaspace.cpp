#include "tokenizer/metaspace.h"

#include <fmt/format.h>

namespace pq {
namespace {

MetaspaceOptions::Scheme read_scheme(const JsonFields& json) {
  const std::string name = json.optional_string("prepend_scheme").value_or("always");
  const MetaspaceOptions::Scheme scheme = name == "always"  ? MetaspaceOptions::Scheme::always
                                          : name == "first" ? MetaspaceOptions::Scheme::first
                                                            : MetaspaceOptions::Scheme::never;
  if (name != "always" && name != "first" && name != "never") {
    json.format_error("prepend_scheme", fmt::format("is '{}', not always, first or never", name));
  }
  if (!json.boolean("add_prefix_space", true) && scheme != MetaspaceOptions::Scheme::never) {
    json.format_error("add_prefix_space", "is false, but prepend_scheme is not 'never'");
  }
  return scheme;
}

}  // namespace

MetaspaceOptions::MetaspaceOptions(const JsonFields& json)
    : replacement(json.character("replacement")), scheme(read_scheme(json)), split(json.boolean("split", true)) {}

}  // namespace pq
