#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tasks/document.h"

namespace pq::tasks {

/// The pages of a raw WikiText file, as lm-evaluation-harness's copy of the data set cuts them (EleutherAI's
/// wikitext_document_level.py).
std::vector<std::string> wikitext_pages(std::string_view raw);

/// A page as the harness scores it: without the traces of WikiText's tokenization. Words and bytes are counted before.
Document wikitext_document(std::string where, const std::string& page);
std::string wikitext_detokenize(std::string_view page);

}  // namespace pq::tasks
