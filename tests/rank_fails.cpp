// rank_fails RANK|all|none: a program on several ranks of which one, all or none fail, while the others go on to a sum.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/communicator.h"
#include "base/error.h"
#include "base/log.h"
#include "program/command_line.h"
#include "program/output.h"

int main(int argc, char** argv) {
  const pq::Verb verb{"eval", [](CLI::App& app, const pq::CommonOptions& /*common*/) -> pq::Action {
                        auto who = std::make_shared<std::string>();
                        app.add_option("WHO", *who, "Who fails")->required();
                        return [who] {
                          pq::Communicator& world = pq::Communicator::world();
                          pq::log_info("a line of the log");
                          pq::log_warning("a warning");
                          if (*who == "bug") throw std::logic_error("index 7");
                          if (*who == "all" || *who == std::to_string(world.rank()))
                            throw pq::FormatError("file.bin", "is damaged", "copy it again");
                          std::vector<std::int64_t> ones(1, 1);
                          world.sum(std::span<std::int64_t>(ones));
                          pq::print_result(fmt::format("{} ranks\n", ones[0]));
                          return 0;
                        };
                      }};
  const pq::Program program{.name = "pq", .has_devices = false, .verbs = {verb}, .forward = {}};
  return pq::run_program(program, argc, argv);
}
