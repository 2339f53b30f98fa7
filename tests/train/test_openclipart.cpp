#include "duet/train/openclipart.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

namespace duet::train {
namespace {

namespace fs = std::filesystem;

TEST(OpenclipartPackage, GivesTheKnownRows) {
  if (!fs::exists("/usr/share/openclipart/svg") || !fs::exists("/usr/share/openclipart/png"))
    GTEST_SKIP() << "openclipart-svg and openclipart-png are not installed";
  const Openclipart data = read_openclipart();
  EXPECT_EQ(data.labelled.size(), 3635u);
  EXPECT_EQ(rows_checksum(data.labelled), "ee577ce6d17b35f3dd3cb0f7ed84351b90a766c67558a1c1652686c2ac7695e2");
}

}  // namespace
}  // namespace duet::train
