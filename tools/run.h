#pragma once

namespace duet::tools {

// The program. Its exit status: 0 success, 1 failure with one line on stderr, 2 usage, 130 after an interrupt.
int run_duet(int argc, char** argv);

}  // namespace duet::tools
