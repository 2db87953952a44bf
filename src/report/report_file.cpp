#include "report/report_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/files.h"

namespace pq::report {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view elsewhere = "choose another name";

/// New files can be made in it.
void check_place(const fs::path& path, const fs::path& directory) {
  std::error_code code;
  if (!fs::is_directory(directory, code)) {
    throw InputError(path.string(), fmt::format("cannot be made, as {} is no directory", directory.string()),
                     "make that first, or choose another name");
  }
  if (::access(directory.c_str(), W_OK | X_OK) != 0) {
    const std::string reason = std::system_category().message(errno);
    throw InputError(path.string(),
                     fmt::format("cannot be made: {} cannot be written to ({})", directory.string(), reason),
                     elsewhere);
  }
}

void check_name(const fs::path& path) {
  constexpr std::size_t longest_name = 240;  // what is being written has a longer one
  if (!path.has_filename()) throw InputError(path.string(), "is no name for a file", "name a file to write");
  if (path.filename().string().size() > longest_name)
    throw InputError(path.string(), "the name is too long", elsewhere);
}

}  // namespace

void check_report_path(const fs::path& path, bool replace) {
  if (path.empty()) throw InputError("-o", "the report's name is empty", "name a file to write");
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  if (fs::is_directory(status)) throw InputError(path.string(), "is a directory", "name a file to write");
  check_name(path);
  if (fs::exists(status)) {
    if (!fs::is_regular_file(status)) throw InputError(path.string(), "is no ordinary file", elsewhere);
    if (!replace) throw InputError(path.string(), "already exists", "choose another name, or --force to replace it");
  } else if (exists_or_dangles(path)) {
    throw InputError(path.string(), "is a link that leads nowhere", elsewhere);
  }
  check_place(path, parent_directory(fs::exists(status) ? fs::canonical(path, code) : path));
}

void write_report(const fs::path& path, std::string_view text, bool replace) {
  check_report_path(path, replace);
  write_file_atomically(path, text);
}

void check_figure_directory(const fs::path& directory) {
  if (directory.empty()) throw InputError("--svg", "the directory's name is empty", "name a directory for the figures");
  if (exists_or_dangles(directory)) {
    check_place(directory / "figure.svg", directory);
  } else {
    fs::path name = directory.lexically_normal();
    if (!name.has_filename()) name = name.parent_path();
    check_name(name);
    check_place(name, parent_directory(name));
  }
}

void write_figures(const fs::path& directory, const std::vector<const Figure*>& figures, bool replace) {
  check_figure_directory(directory);
  std::error_code code;
  fs::create_directory(directory, code);
  if (code) throw SystemError(directory.string(), fmt::format("cannot make the directory: {}", code.message()), "");
  const auto path_of = [&](const Figure* figure) { return directory / (figure->caption.id + ".svg"); };
  for (const Figure* figure : figures) check_report_path(path_of(figure), replace);
  for (const Figure* figure : figures) write_file_atomically(path_of(figure), standalone_svg(*figure));
}

}  // namespace pq::report
