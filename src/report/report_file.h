#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "report/figure.h"

namespace pq::report {

/// Whether a file can be written at `path`, to be asked before any work: throws InputError where one is there and
/// `replace` is not set, for an empty name, a directory, a device, a link that leads nowhere, and where its directory
/// is none or cannot be written to.
void check_report_path(const std::filesystem::path& path, bool replace);
/// Writes a whole file or none. Throws as check_report_path, and SystemError when the disk is full.
void write_report(const std::filesystem::path& path, std::string_view text, bool replace);

/// The same for a directory that figures go to: made where it is missing, but not those above it. What else is in it
/// stays. Figures that are there are refused when they are written.
void check_figure_directory(const std::filesystem::path& directory);
/// Every figure as DIRECTORY/ID.svg, each a whole file. Throws InputError, before the first is written, where one of
/// these files is there and `replace` is not set.
void write_figures(const std::filesystem::path& directory, const std::vector<const Figure*>& figures, bool replace);

}  // namespace pq::report
