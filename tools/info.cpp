#include <iostream>
#include <thread>

#include "duet/tools/commands.h"

namespace duet::tools {

void add_info_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Show devices, instruction sets, libraries and build options");
  command->callback(
      [] { std::cout << "device    cpu, " << std::thread::hardware_concurrency() << " hardware threads\n"; });
}

}  // namespace duet::tools
