#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace duet {

// The one exception type. The message reads "[where] what happened: values, shapes, file, and what to do".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Streams every part into one string; shapes, dtypes and tensors print themselves through operator<<.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws Error. `where` names the operator or component, e.g. "matmul" or "tokenizer".
template <class... Parts>
[[noreturn]] void fail(std::string_view where, const Parts&... parts) {
  throw Error(text("[", where, "] ", parts...));
}

// Throws Error unless `ok`. The parts are only formatted on failure, so checks are cheap on the good path.
template <class... Parts>
void check(bool ok, std::string_view where, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail(where, parts...);
}

}  // namespace duet
