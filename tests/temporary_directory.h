#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "duet/core/error.h"

namespace duet::testing {

// A fresh directory, removed with everything in it at the end of the scope.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    path_ = (std::filesystem::temp_directory_path() / "duet_test_XXXXXX").string();
    check(::mkdtemp(path_.data()) != nullptr, "test", "cannot make a temporary directory from ", path_);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace duet::testing
