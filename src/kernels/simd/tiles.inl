// How products are cut into register tiles. Included inside the namespace of one instruction set.

/// Calls with<R>(row) for R = Largest rows as often as it goes, then for what is left with 4, 2 and 1.
template <int Largest, typename With>
inline void for_each_row_tile(std::int64_t rows, With&& with) {
  std::int64_t row = 0;
  for (; row + Largest <= rows; row += Largest) with.template operator()<Largest>(row);
  if constexpr (Largest > 4) {
    if (row + 4 <= rows) {
      with.template operator()<4>(row);
      row += 4;
    }
  }
  if (row + 2 <= rows) {
    with.template operator()<2>(row);
    row += 2;
  }
  if (row < rows) with.template operator()<1>(row);
}

/// Calls with<P>(panel) for the panels [panel, last), P = tile_panels as often as it goes, then 1.
template <typename With>
inline void for_each_panel_group(std::int64_t panel, std::int64_t last, With&& with) {
  for (; panel + tile_panels <= last; panel += tile_panels) with.template operator()<tile_panels>(panel);
  if constexpr (tile_panels > 1) {
    for (; panel < last; ++panel) with.template operator()<1>(panel);
  }
}
