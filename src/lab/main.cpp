#include "base/process.h"
#include "lab/verbs.h"

int main(int argc, char** argv) {
  // OpenBLAS and libgomp are loaded by now and have read their settings: new ones take another start. `pq` has made
  // them already for those who come that way.
  if (pq::prepare_tensor_environment()) {
    const auto program = pq::own_executable();
    if (!program.empty()) pq::replace_process(program, argv);
  }
  const pq::Program program{
      .name = "pq-lab",
      .has_devices = true,
      .verbs = {pq::lab::quantize_verb(), pq::lab::compare_verb(), pq::lab::eval_verb(), pq::lab::analyze_verb()},
      .forward = {},
      .apply = pq::lab::apply_common_options};
  return pq::run_program(program, argc, argv);
}
