// gallery_for_test DIR: page.html and every figure of it as SVG, to be looked at and to be held against parsers.
#include "report/gallery_for_test.h"

#include <filesystem>

#include "report/report_file.h"

int main(int, char** argv) {
  const std::filesystem::path directory = argv[1];
  const pq::report::Page page = pq::report::sample_page();
  pq::report::write_figures(directory, pq::report::figures_of(page), true);
  pq::report::write_report(directory / "page.html", pq::report::to_html(page), true);
  const pq::report::Page quantization = pq::report::to_page(pq::report::sample_quantization(30));
  pq::report::write_report(directory / "quantization.html", pq::report::to_html(quantization), true);
  pq::report::write_report(directory / "page-of-30-blocks.html", pq::report::to_html(pq::report::sample_page(30)),
                           true);
}
