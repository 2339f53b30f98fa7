#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace duet::testing {

// Whether all `paths` of Debian's data packages are installed. If not, the calling test is to return: it then counts
// as skipped, or as failed when DUET_REQUIRE_DATA is set, so that a machine that should have the data cannot pass
// without having looked at them.
inline bool has_real_data(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (std::filesystem::exists(path)) continue;
    [&] {
      if (std::getenv("DUET_REQUIRE_DATA") != nullptr) FAIL() << path << " is not installed";
      GTEST_SKIP() << path << " is not installed";
    }();
    return false;
  }
  return true;
}

}  // namespace duet::testing
