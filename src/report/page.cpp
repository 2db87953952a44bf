#include "report/page.h"

#include <fmt/format.h>

#include <set>
#include <stdexcept>
#include <utility>

#include "base/version.h"
#include "report/assets.h"
#include "report/escape.h"

namespace pq::report {
namespace {

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

/// Text of several lines, as it is copied.
std::string escape_lines(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    out += escape_markup(line);
    if (end < text.size()) out += "\n";
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string bidi_isolated(std::string_view text) { return "<bdi>" + escape_markup(text) + "</bdi>"; }

/// 'sha256-…', as a content security policy names what may be used.
std::string policy_hash(const Asset& asset) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  unsigned bits = 0;
  int held = 0;
  std::string base64;
  for (std::size_t i = 0; i < asset.sha256.size(); i += 2) {
    bits = bits << 8U | static_cast<unsigned>(std::stoul(std::string(asset.sha256.substr(i, 2)), nullptr, 16));
    for (held += 8; held >= 6; held -= 6) base64 += digits[bits >> static_cast<unsigned>(held - 6) & 63U];
  }
  if (held > 0) base64 += digits[bits << static_cast<unsigned>(6 - held) & 63U];
  while (base64.size() % 4 != 0) base64 += '=';
  return fmt::format("'sha256-{}'", base64);
}

std::string copy_box(std::string_view name, std::string_view text) {
  return fmt::format("<div class=\"copy\" data-name=\"{}\"><pre tabindex=\"0\">{}</pre></div>\n", escape_markup(name),
                     escape_lines(text));
}

std::string scrolling(const Table& table) {
  return "<div class=\"scroll\" tabindex=\"0\">" + to_html(table) + "</div>\n";
}

std::string figure_html(const Figure& figure) {
  std::string out = fmt::format("<figure id=\"{}\"><figcaption><strong>{}</strong>{}</figcaption>\n", figure.caption.id,
                                bidi_isolated(figure.caption.title),
                                figure.caption.description.empty() ? "" : bidi_isolated(figure.caption.description));
  out += inline_svg(figure);
  if (!figure.numbers.rows.empty())
    out += "<details class=\"numbers\"><summary>Numbers</summary>" + scrolling(figure.numbers) + "</details>";
  return out + "</figure>\n";
}

std::string copyable(const Table& table) {
  return scrolling(table) + "<details><summary>To copy: Markdown, CSV, LaTeX</summary>\n" +
         copy_box("the table as Markdown", to_markdown(table)) + copy_box("the table as CSV", to_csv(table)) +
         copy_box("the table as LaTeX", to_latex(table)) + "</details>\n";
}

std::string items_html(const std::vector<Item>& items) {
  std::string out;
  for (const Item& item : items) {
    out += std::visit(Overloaded{[](const Text& text) { return fmt::format("<p>{}</p>\n", bidi_isolated(text.text)); },
                                 [](const Code& code) { return copy_box("", code.text); },
                                 [](const Table& table) { return scrolling(table); },
                                 [](const CopyableTable& table) { return copyable(table.table); },
                                 [](const Figure& figure) { return figure_html(figure); }},
                      item);
  }
  return out;
}

std::string choice_id(const Section& section, std::size_t picker, std::size_t choice) {
  return picker == 0 ? fmt::format("{}-{}", section.id, choice) : fmt::format("{}-{}-{}", section.id, picker, choice);
}

std::string section_html(const Section& section) {
  std::string out = fmt::format("<section id=\"{0}\" aria-labelledby=\"{0}-h\"><h2 id=\"{0}-h\">{1}</h2>\n", section.id,
                                bidi_isolated(section.heading));
  out += items_html(section.items);
  for (std::size_t p = 0; p < section.pickers.size(); ++p) {
    const Picker& picker = section.pickers[p];
    out += fmt::format("<div class=\"picker\" data-label=\"{}\" data-first=\"{}\">\n", escape_markup(picker.label),
                       picker.first);
    for (std::size_t c = 0; c < picker.choices.size(); ++c) {
      const Choice& choice = picker.choices[c];
      out += fmt::format("<div class=\"choice\" id=\"{}\" data-name=\"{}\"><h3>{}</h3>\n", choice_id(section, p, c),
                         escape_markup(choice.name), bidi_isolated(choice.name));
      out += items_html(choice.items) + "</div>\n";
    }
    out += "</div>\n";
  }
  return out + "</section>\n";
}

class Ids {
 public:
  void take(const std::string& id) {
    const bool plain = !id.empty() && id.front() >= 'a' && id.front() <= 'z' &&
                       id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
    if (!plain || !taken_.insert(id).second)
      throw std::logic_error(fmt::format("the id '{}' is taken, or is none", id));
  }

 private:
  std::set<std::string> taken_;
};

void check_ids(const Page& page) {
  Ids ids;
  ids.take("main");
  for (const Section& section : page.sections) {
    ids.take(section.id);
    ids.take(section.id + "-h");
    for (std::size_t p = 0; p < section.pickers.size(); ++p) {
      for (std::size_t c = 0; c < section.pickers[p].choices.size(); ++c) ids.take(choice_id(section, p, c));
    }
  }
  for (const Figure* figure : figures_of(page)) {
    ids.take(figure->caption.id);
    ids.take(figure->caption.id + "-t");
    ids.take(figure->caption.id + "-d");
  }
}

std::string head(const Page& page) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {} {}; script-src {}; "
      "base-uri 'none'; form-action 'none'\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta name=\"color-scheme\" content=\"light dark\"/><meta name=\"referrer\" content=\"no-referrer\"/>\n"
      "<title>{}</title>\n<style>{}</style>\n<style>{}</style></head>\n",
      policy_hash(page_style()), policy_hash(figure_style()), policy_hash(page_script()), escape_markup(page.title),
      page_style().text, figure_style().text);
}

}  // namespace

std::string to_html(const Page& page) {
  check_ids(page);
  std::string out = head(page);
  out += "<body><a class=\"skip\" href=\"#main\">Skip to the content</a>\n";
  out += fmt::format("<header><h1>{}</h1>\n<p class=\"finding\">{}</p></header>\n", bidi_isolated(page.title),
                     bidi_isolated(page.finding));
  out += "<nav aria-label=\"Sections\"><ul>";
  for (const Section& section : page.sections)
    out += fmt::format("<li><a href=\"#{}\">{}</a></li>", section.id, bidi_isolated(section.heading));
  out += "</ul></nav>\n<main id=\"main\">\n";
  for (const Section& section : page.sections) out += section_html(section);
  out += fmt::format("</main>\n<footer>Made by prefixquant {}.</footer>\n<script>{}</script></body></html>\n",
                     version(), page_script().text);
  return out;
}

std::vector<const Figure*> figures_of(const Page& page) {
  std::vector<const Figure*> figures;
  const auto add = [&](const std::vector<Item>& items) {
    for (const Item& item : items) {
      if (const auto* figure = std::get_if<Figure>(&item)) figures.push_back(figure);
    }
  };
  for (const Section& section : page.sections) {
    add(section.items);
    for (const Picker& picker : section.pickers) {
      for (const Choice& choice : picker.choices) add(choice.items);
    }
  }
  return figures;
}

}  // namespace pq::report
