#pragma once

#include <string>

#include "duet/tests/temporary_directory.h"

namespace duet::tools {

struct CommandResult {
  int status = -1;  // exit status, or 128 + signal
  std::string out, err;
};

// Runs the duet binary with `arguments`, which a shell splits; `input` is its standard input.
CommandResult run_duet(const std::string& arguments, const std::string& input = "");

using testing::TemporaryDirectory;

}  // namespace duet::tools
