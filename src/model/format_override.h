#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/recipe.h"

namespace pq {

// A scoped setting: a format field of some blocks or linear layers. As --set, recipes and checkpoints write it:
//   [blocks.FIRST-LAST.][linear.NAME.]FIELD=VALUE
// FIRST-LAST counts from 0 and holds both ends, one number is one block; NAME is q_proj, k_proj, v_proj, o_proj,
// gate_proj, up_proj or down_proj; FIELD is one of weight.*, activation.* and kv.*. What is left out is all of them.

/// Whether a key speaks of some blocks or linear layers.
bool is_scoped(std::string_view key);

/// Throws InputError that names the key: for a range or a name that is none ("did you mean"), a field that is not a
/// format's, K and V of a linear layer, or a value that is not allowed.
FormatOverride parse_override(std::string_view key, std::string_view value);

/// "blocks.0-1.linear.down_proj.weight.bits"
std::string override_key(const FormatOverride& override);
/// The same with its value: what apply_setting() takes.
std::string override_setting(const FormatOverride& override);

/// Puts it behind the others; one of the same key, which it hides, goes.
void add_override(std::vector<FormatOverride>& overrides, FormatOverride override);

/// "down_proj"
std::string_view linear_name(LinearId linear);

}  // namespace pq
