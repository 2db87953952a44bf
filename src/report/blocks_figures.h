#pragma once

#include <string>
#include <vector>

#include "report/page.h"

// Figures over the blocks of a model that several pages have.

namespace pq::report {

/// Blocks down, `columns` across; a logarithmic scale. The caption is still to be filled.
HeatMap blocks_by(const std::vector<std::vector<double>>& values, std::vector<std::string> columns,
                  std::string column_label, std::string value_label);
/// Adds the map of a value that blocks and linear layers have, whose title names the largest; nothing where no value is
/// finite.
void add_linear_map(Section& section, const char* id, const std::vector<std::vector<double>>& values,
                    const std::vector<std::string>& linears, const char* what, const char* description);
bool any_number(const std::vector<std::vector<double>>& values);
std::vector<Point> over_blocks(const std::vector<double>& values);
Axis block_axis();

}  // namespace pq::report
