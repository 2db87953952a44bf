#include "program/verb_list.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace pq {

const std::vector<VerbRow>& verbs() {
  static const std::vector<VerbRow> rows{
      {"run", "Continue a text with a model, on the integer runtime", false},
      {"chat", "Talk with a model, on the integer runtime", false},
      {"quantize", "Quantize a model: find the prefix, rotate, search scales, write a checkpoint", true, true},
      {"compare", "Measure each step of the method on one model, as a table", true, true},
      {"eval", "Perplexity of a model or a quantized checkpoint, and its distance from another", false, true},
      {"analyze", "Show a model's outlier tokens, the prefix they call for and what it does", true},
      {"bench", "Measure speed beside the machine's own limits", false},
      {"verify", "Compare the runtime with the reference arithmetic on this machine", false},
      {"export", "Write a checkpoint in another program's form: GGUF (llama.cpp), compressed-tensors (vLLM)", false},
      {"inspect", "Show what a checkpoint holds: recipe, tensors, sizes, prefix, scales", false},
      {"tokenize", "Turn text into token ids: JSON strings on stdin, JSON arrays on stdout", false},
  };
  return rows;
}

const VerbRow* find_verb(std::string_view name) {
  const auto row = std::find_if(verbs().begin(), verbs().end(), [&](const VerbRow& r) { return r.name == name; });
  return row == verbs().end() ? nullptr : &*row;
}

std::string verbs_of_several_processes() {
  std::vector<std::string_view> names;
  for (const VerbRow& row : verbs()) {
    if (row.several_processes) names.push_back(row.name);
  }
  const std::string_view last = names.back();
  names.pop_back();
  return fmt::format("{} and {}", fmt::join(names, ", "), last);
}

std::string overview() {
  std::string text =
      "pq quantizes Hugging Face language models to 4 and 8 bits: it finds a model's outlier tokens, puts them in "
      "front of the\n"
      "KV cache, quantizes weights, activations and KV cache, and shows what that cost.\n\n"
      "Usage: pq VERB [ARGUMENTS] [FLAGS]\n\nVerbs:\n";
  for (const VerbRow& row : verbs()) text += fmt::format("  {:<10} {}\n", row.name, row.summary);
  text +=
      "\nMODEL is a directory in Hugging Face layout, or an org/name that is in the local Hugging Face cache.\n\n"
      "Examples:\n"
      "  pq quantize MODEL -o OUT --recipe w4a4kv4-static   quantize weights, activations and KV cache to 4 bits\n"
      "  pq eval OUT --text wiki.test.raw --against MODEL   perplexity, and the distance from the original\n"
      "  pq compare MODEL --text wiki.test.raw              what each step of the method brings on this model\n"
      "  pq run OUT --prompt 'Once upon a time'             continue a text, fast\n"
      "  pq bench MODEL OUT                                 their speed, beside the machine's limits\n"
      "  pq inspect OUT                                     recipe, prefix, scales and sizes\n"
      "\n`pq VERB --help` lists the flags of a verb. `pq --version` prints the version.\n";
  return text;
}

}  // namespace pq
