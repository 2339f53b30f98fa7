#pragma once

#include <string>
#include <vector>

#include "duet/core/error.h"

namespace duet::tools {

// The command line itself is wrong, whatever the files hold: exit status 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Throws UsageError unless `ok`.
template <class... Parts>
void check_usage(bool ok, std::string_view where, const Parts&... parts) {
  if (!ok) throw UsageError(text("[", where, "] ", parts...));
}

// Checks an option's value for CLI11, whose own check for this names the range up to 1.8e308 with all its digits.
std::string not_negative(const std::string& value);
std::string positive(const std::string& value);

// The arguments after the program's name, with `--set key=value` turned into `--key=value` and `--config FILE.json`
// into one `--key=value` per entry of the file that the command line does not give itself. Lists repeat the option.
std::vector<std::string> expand_arguments(int argc, char** argv);

// The command line as typed, quoted where a shell needs it.
const std::string& command_line();

}  // namespace duet::tools
