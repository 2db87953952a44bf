#pragma once

#include <string_view>

#include "base/json.h"
#include "report/model_card.h"
#include "report/quantization_report.h"

namespace pq::report {

/// What a quantized checkpoint keeps (report.json), so that its page and its model card can be made again.
struct ReportRecord {
  QuantizationReport report;
  ModelCard card;
};

inline constexpr int record_version = 2;

/// Numbers that are not finite become null.
Json to_json(const ReportRecord& record);
/// The inverse. Throws FormatError naming `where` for what is no such record, UnsupportedError for another version.
ReportRecord record_from_json(const Json& json, std::string_view where);

}  // namespace pq::report
