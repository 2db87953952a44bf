#include "cli/verbs.h"
#include "program/run_in_lab.h"

int main(int argc, char** argv) {
  const pq::Program program{
      .name = "pq",
      .has_devices = false,
      .verbs = {pq::cli::run_verb(), pq::cli::chat_verb(), pq::cli::eval_verb(argc, argv), pq::cli::bench_verb(),
                pq::cli::verify_verb(), pq::cli::export_verb(), pq::cli::inspect_verb(), pq::cli::tokenize_verb()},
      .forward = pq::run_in_lab,
      .apply = {},
      .other_flags = pq::flags_of_lab};
  return pq::run_program(program, argc, argv);
}
