#include "cli/verbs.h"

int main(int argc, char** argv) {
  const pq::Program program{
      .name = "pq",
      .has_devices = false,
      .verbs = {pq::cli::run_verb(), pq::cli::chat_verb(), pq::cli::eval_verb(argc, argv), pq::cli::bench_verb(),
                pq::cli::verify_verb(), pq::cli::inspect_verb(), pq::cli::tokenize_verb()},
      .forward = pq::cli::run_in_lab,
      .apply = {}};
  return pq::run_program(program, argc, argv);
}
