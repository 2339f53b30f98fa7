#include "duet/tests/tools/run_duet.h"

#include <sys/wait.h>

#include <cstdlib>

#include "duet/core/error.h"
#include "duet/core/file.h"

namespace duet::tools {

CommandResult run_duet(const std::string& arguments, const std::string& input) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "in", input);
  const std::string command = text("'" DUET_BINARY "' ", arguments, " <'", directory / "in", "' >'", directory / "out",
                                   "' 2>'", directory / "err", "'");
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(directory / "out"),
          read_file(directory / "err")};
}

}  // namespace duet::tools
