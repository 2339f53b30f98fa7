#pragma once

#include <gtest/gtest.h>

#include <string>

#include "duet/core/error.h"
#include "duet/tests/temporary_directory.h"

namespace duet::train {

using testing::TemporaryDirectory;

// Runs `f`, which must throw Error, and returns its message.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

#define EXPECT_CONTAINS(message, part)                       \
  do {                                                       \
    const std::string text_ = (message);                     \
    EXPECT_NE(text_.find(part), std::string::npos) << text_; \
  } while (false)

}  // namespace duet::train
