#pragma once

#include <string>
#include <vector>

namespace duet::tools {

// The arguments after the program's name, with `--set key=value` turned into `--key=value` and `--config FILE.json`
// into one `--key=value` per entry of the file that the command line does not give itself. Lists repeat the option.
std::vector<std::string> expand_arguments(int argc, char** argv);

// The command line as typed, quoted where a shell needs it.
const std::string& command_line();

}  // namespace duet::tools
