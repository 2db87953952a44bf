#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pq::tasks {

/// What a model is asked: how likely is the continuation behind the context?
struct Prompt {
  std::string context;
  std::string continuation;
  std::string field = {};  ///< of the line, that the continuation comes from
};

/// A document of a task, as the model sees it.
struct Document {
  std::string where;                     ///< "FILE, line N"
  std::vector<Prompt> prompts;           ///< one a choice; a single one where nothing is chosen
  std::vector<std::int64_t> characters;  ///< of each choice, without the space in front
  std::size_t gold = 0;                  ///< the right choice
  std::int64_t words = 0;                ///< of a page
  std::int64_t bytes = 0;                ///< the same
};

}  // namespace pq::tasks
