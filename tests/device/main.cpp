#include <gtest/gtest.h>

#include <cstdio>

#include "duet/tests/device.h"

// Without a device there is nothing to test: exit status 77, which ctest shows as skipped.
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a forked copy of a process could not use the GPU
  if (!::testing::GTEST_FLAG(list_tests)) {
    try {
      duet::parse_device(DUET_TEST_DEVICE);
    } catch (const duet::Error& e) {
      std::printf("skipped: %s\n", e.what());
      return 77;
    }
  }
  return RUN_ALL_TESTS();
}
