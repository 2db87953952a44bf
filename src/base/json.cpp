#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/files.h"
#include "base/json_literals.h"

namespace pq {
namespace {

/// Of members with one key the first gives the place and the last the value, as in an object that looks each key up.
void keep_last_values(Json::object_t& object) {
  const std::span members(object.begin(), object.end());  // by number; [] of the object wants a key
  std::vector<std::size_t> order(members.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return members[a].first < members[b].first; });
  std::vector<bool> repeats(members.size(), false);
  bool any = false;
  for (std::size_t i = 0; i + 1 < order.size();) {
    const std::size_t first = order[i];
    std::size_t last = i;
    while (last + 1 < order.size() && members[order[last + 1]].first == members[first].first) {
      repeats[order[++last]] = true;
      any = true;
    }
    if (last > i) members[first].second = std::move(members[order[last]].second);
    i = last + 1;
  }
  if (!any) return;
  Json::object_t kept;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (!repeats[i]) kept.emplace_back(members[i].first, std::move(members[i].second));
  }
  object = std::move(kept);
}

/// Builds the tree from the parser's events. An ordered object looks a key up by going through all that it has, so that
/// a file with many keys would take quadratic time; here members are appended, and repeated ones found by sorting.
class TreeBuilder final : public nlohmann::json_sax<Json> {
 public:
  TreeBuilder(const PythonJson& source, std::string_view where, int max_depth)
      : source_(source), where_(where), max_depth_(static_cast<std::size_t>(max_depth)) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string& spelling) override { return add(source_.number(value, spelling)); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t& value) override { return add(std::move(value)); }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool key(std::string& key) override {
    check_depth();
    open_.back().key = std::move(key);
    return true;
  }
  bool end_object() override {
    keep_last_values(open_.back().value.get_ref<Json::object_t&>());
    return close();
  }
  bool end_array() override { return close(); }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    if (const auto* syntax = dynamic_cast<const Json::parse_error*>(&error)) {
      throw FormatError(where_, fmt::format("is not valid JSON (at byte {})", source_.original_byte(syntax->byte)),
                        "the file may be cut short; copy it again");
    }
    throw FormatError(where_, fmt::format("is not valid JSON ({})", error.what()), "copy the file again");
  }

 private:
  struct Open {
    Json value;
    std::string key;  // of an object's member that comes next
  };

  void check_depth() const {
    if (open_.size() > max_depth_) {
      throw FormatError(where_, fmt::format("JSON is nested deeper than {} levels", max_depth_),
                        "this is not a file of the kind expected");
    }
  }

  bool open(Json container) {
    check_depth();
    open_.push_back({std::move(container), {}});
    return true;
  }

  bool close() {
    Json value = std::move(open_.back().value);
    open_.pop_back();
    put(std::move(value));
    return true;
  }

  bool add(Json value) {
    check_depth();
    put(std::move(value));
    return true;
  }

  void put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Json& container = open_.back().value; container.is_array()) {
      container.get_ref<Json::array_t&>().push_back(std::move(value));
    } else {
      container.get_ref<Json::object_t&>().emplace_back(std::move(open_.back().key), std::move(value));
    }
  }

  const PythonJson& source_;
  std::string_view where_;
  std::size_t max_depth_;
  std::vector<Open> open_;
  Json root_;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view where, int max_depth) {
  const PythonJson source(text);
  TreeBuilder tree(source, where, max_depth);
  Json::sax_parse(source.text().begin(), source.text().end(), &tree);
  return tree.take();
}

Json read_json_file(const std::filesystem::path& path, int max_depth) {
  const std::string text = read_text_file(path);
  check_file_kind(path, std::as_bytes(std::span(text)), FileKind::json);
  return parse_json(text, path.string(), max_depth);
}

}  // namespace pq
