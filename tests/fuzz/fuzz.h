#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "duet/core/error.h"

// What every target needs. libFuzzer calls LLVMFuzzerTestOneInput with bytes of its own making; a crash, a report of a
// sanitizer, an exception other than duet::Error, a hang, or too much memory is a finding.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace duet::fuzz {

inline std::string_view as_text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Runs `body`; refusing bad input is what the product must do, so an Error is fine.
template <class Body>
void allow_errors(Body&& body) {
  try {
    body();
  } catch (const Error&) {
  }
}

// Whatever the input, this must hold.
inline void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "fuzz: violated: %s\n", what);
  std::abort();
}

}  // namespace duet::fuzz
