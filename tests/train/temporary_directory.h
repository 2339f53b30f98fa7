#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "duet/core/error.h"

namespace duet::train {

// A fresh directory, named after the running test and removed with everything in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            text("duet_", test->test_suite_name(), "_", test->name(), "_", ::getpid(), "_", count++);
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string path() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

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
