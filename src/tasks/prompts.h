#pragma once

#include <string>
#include <string_view>

#include "tasks/document.h"
#include "tasks/json_lines.h"

namespace pq::tasks {

// What the documents of each task become: the prompts of lm-evaluation-harness 0.4.2 to 0.4.13, zero-shot, to the
// letter. All throw what JsonLine throws.

Document piqa(const JsonLine& line);
/// ARC, easy and challenge.
Document arc(const JsonLine& line);
/// Of the hub's `ctx_a` and `ctx_b`; a line that has only `ctx` is one that was cleaned before.
Document hellaswag(const JsonLine& line);
Document winogrande(const JsonLine& line);
Document lambada(const JsonLine& line);

/// What the harness does to the texts of HellaSwag.
std::string clean_hellaswag(std::string_view text);

/// A document of choices. Throws FormatError for a choice that is empty, naming `field`.
Document choose(const JsonLine& line, std::string_view field, const std::vector<std::string>& choices,
                std::size_t gold);

}  // namespace pq::tasks
