#pragma once

#include <string_view>

// figure.css, page.css and page.js, as the build put them into the program (assets.cpp.in).

namespace pq::report {

struct Asset {
  std::string_view text;
  std::string_view sha256;  ///< in hexadecimal digits
};
Asset figure_style();
Asset page_style();
Asset page_script();

}  // namespace pq::report
