#include "cli/verbs.h"

int main(int argc, char** argv) {
  const pq::Program program{.name = "pq",
                            .has_devices = false,
                            .verbs = {pq::cli::inspect_verb(), pq::cli::tokenize_verb()},
                            .forward = pq::cli::run_in_lab,
                            .apply = {}};
  return pq::run_program(program, argc, argv);
}
