#include "duet/ops/philox_blocks.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace duet::ops {
namespace {

class PhiloxBlocksOf : public ::testing::TestWithParam<CpuInstructions> {};

// Also where the low half of the counter runs over, and nothing behind what is promised is written.
TEST_P(PhiloxBlocksOf, AreThoseOfPhilox) {
  if (!cpu_has(GetParam())) GTEST_SKIP() << "this processor has no " << name_of(GetParam());
  const PhiloxBlocks make = philox_blocks(GetParam());
  const RandomKey key{0x123456789ABCDEF, 0xFEDCBA987654321};
  constexpr uint32_t untouched = 77;
  for (const uint64_t first :
       {uint64_t{0}, uint64_t{5}, (uint64_t{1} << 32) - 9, (uint64_t{7} << 32) - 1, ~uint64_t{0} - 5})
    for (const int64_t blocks : {0, 1, 7, 8, 9, 16, 17, 31, 32, 33, 70}) {
      const int64_t batches = (blocks + philox_blocks_together - 1) / philox_blocks_together;
      const auto promised = static_cast<size_t>(4 * batches * philox_blocks_together);
      std::vector<uint32_t> numbers(promised + 4, untouched);
      make(key, first, blocks, numbers.data());
      for (int64_t b = 0; b < blocks; ++b)
        for (size_t j = 0; j < 4; ++j)
          ASSERT_EQ(numbers[static_cast<size_t>(4 * b) + j], philox(key, first + static_cast<uint64_t>(b))[j])
              << "block " << b << " of " << blocks << " from " << first;
      for (size_t i = promised; i < numbers.size(); ++i) ASSERT_EQ(numbers[i], untouched);
    }
}

INSTANTIATE_TEST_SUITE_P(Set, PhiloxBlocksOf,
                         ::testing::Values(CpuInstructions::baseline, CpuInstructions::avx2, CpuInstructions::avx512),
                         [](const auto& p) { return std::string(name_of(p.param)); });

}  // namespace
}  // namespace duet::ops
