#include "pipeline/prefix.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "model/token_range.h"

namespace pq::quant {
namespace {

constexpr std::string_view remedy = "use auto, none, ids:1,2, random:N, top1:N, or text";

std::int64_t parse_count(std::string_view text, std::string_view setting) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size() || value < 0) {
    throw InputError(fmt::format("--prefix {}", setting), fmt::format("'{}' is not a number of tokens or an id", text),
                     remedy);
  }
  return value;
}

std::int64_t parse_length(std::string_view text, std::string_view setting) {
  const std::int64_t value = parse_count(text, setting);
  if (value < 1 || value > 64)
    throw InputError(fmt::format("--prefix {}", setting), "a prefix has 1 to 64 tokens", remedy);
  return value;
}

std::vector<std::int32_t> parse_ids(std::string_view list, std::string_view setting, const ModelSpec& spec) {
  std::vector<std::int32_t> ids;
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    const std::int64_t id = parse_count(list.substr(0, comma), setting);
    if (!in_vocabulary(id, spec)) {
      throw InputError(fmt::format("--prefix {}", setting),
                       fmt::format("token {} is outside the vocabulary of {}", id, spec.vocab_size),
                       "pq tokenize shows the ids of a text");
    }
    ids.push_back(static_cast<std::int32_t>(id));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return ids;
}

std::vector<std::int32_t> parse_text(std::string_view text, const Tokenizer& tokenizer, const ModelSpec& spec) {
  std::vector<std::int32_t> ids;
  std::string part;
  const auto flush = [&] {
    const auto encoded = tokenizer.encode(part, false);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    part.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("[BOS]")) {
      if (!part.empty()) flush();
      ids.push_back(start_token(tokenizer, spec));
      i += 4;
    } else if (text[i] == '\\' && i + 1 < text.size() &&
               std::string_view("nt\\").find(text[i + 1]) != std::string_view::npos) {
      ++i;
      part += text[i] == 'n' ? '\n' : text[i] == 't' ? '\t' : '\\';
    } else {
      part += text[i];
    }
  }
  if (!part.empty()) flush();
  return ids;
}

/// Ids frequent enough to be more than noise.
std::vector<std::int32_t> frequent_ids(const PrefixSettings& settings, const OutlierReport& report) {
  std::vector<std::int32_t> ids;
  for (const OutlierToken& token : report.tokens) {
    if (token.sequence_share >= settings.min_frequency) ids.push_back(token.id);
  }
  return ids;
}

/// The ids that the settings name, before anything is cut.
std::vector<std::int32_t> wanted_ids(const PrefixSettings& settings, const OutlierReport* report,
                                     const Tokenizer& tokenizer, const ModelSpec& spec, std::uint64_t seed) {
  const std::string& wanted = settings.tokens;
  std::vector<std::int32_t> ids;
  if (wanted == "auto") {
    ids = frequent_ids(settings, *report);
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(report->outlier_count)));
    ids.push_back(start_token(tokenizer, spec));
  } else if (wanted.starts_with("top1:")) {
    const std::int64_t count = parse_length(std::string_view(wanted).substr(5), wanted);
    const auto frequent = frequent_ids(settings, *report);
    const std::int32_t id = frequent.empty() ? start_token(tokenizer, spec) : frequent.front();
    ids.assign(static_cast<std::size_t>(count), id);
  } else if (wanted.starts_with("random:")) {
    const std::int64_t count = parse_length(std::string_view(wanted).substr(7), wanted);
    Random random(seed, "random prefix");
    for (std::int64_t i = 0; i < count; ++i) {
      ids.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(spec.vocab_size))));
    }
  } else if (wanted.starts_with("ids:")) {
    ids = parse_ids(std::string_view(wanted).substr(4), wanted, spec);
  } else {
    ids = parse_text(wanted, tokenizer, spec);
  }
  return ids;
}

/// The first k of `ids` for the k that the objective finds best.
std::vector<std::int32_t> best_cut(const std::vector<std::int32_t>& ids, const PrefixObjective& objective) {
  std::vector<std::int32_t> best = ids;
  double least = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::int32_t> cut;
  for (std::size_t length = 0;; ++length) {
    const double score = objective(cut);
    if (score < least || (std::isnan(least) && !std::isnan(score))) {
      least = score;
      best = cut;
    }
    if (length == ids.size()) return best;
    cut.push_back(ids[length]);
  }
}

}  // namespace

bool needs_outliers(const PrefixSettings& settings) {
  return settings.tokens == "auto" || settings.tokens.starts_with("top1:");
}

std::vector<std::int32_t> choose_prefix(const PrefixSettings& settings, const OutlierReport* report,
                                        const Tokenizer& tokenizer, const ModelSpec& spec, std::uint64_t seed,
                                        const PrefixObjective& objective) {
  if (settings.tokens == "none" || settings.tokens.empty()) return {};
  std::vector<std::int32_t> ids = wanted_ids(settings, report, tokenizer, spec, seed);
  if (settings.count >= 0) {
    if (static_cast<std::int64_t>(ids.size()) < settings.count) {
      log_warning("a prefix of {} tokens was asked for; there are only {}", settings.count, ids.size());
    }
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(settings.count)));
  }
  return objective ? best_cut(ids, objective) : ids;
}

std::string prefix_text(const std::vector<std::int32_t>& ids, const Tokenizer& tokenizer) {
  std::string text;
  for (const std::int32_t id : ids) {
    if (!text.empty()) text += ' ';
    text += tokenizer.token_text(id);
  }
  return text;
}

}  // namespace pq::quant
