#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "duet/core/cpu.h"
#include "duet/ops/dropout.h"
#include "duet/ops/philox_blocks.h"

namespace duet::ops {
namespace {

// Element i of the stream is kept when number i, taken one at a time, reaches p 2^32.
TEST(DropoutSpan, UsesNumberIOfTheStreamForElementI) {
  const RandomKey key{0x123456789ABCDEF, 0xFEDCBA987654321};
  for (const int64_t n : {1, 3, 5, 127, 128, 129, 600})
    for (const int64_t first : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{3}, int64_t{577}, (int64_t{1} << 34) - 8})
      for (const float p : {0.0f, 0.1f, 0.5f, 0.999f}) {
        std::vector<float> x(static_cast<size_t>(n)), y(x.size());
        for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) + 1;
        dropout_span<float>(x.data(), y.data(), n, p, key, first);
        for (size_t i = 0; i < x.size(); ++i) {
          const auto position = static_cast<uint64_t>(first) + i;
          const bool keep = philox(key, position / 4)[position % 4] >= static_cast<double>(p) * 0x1p32;
          ASSERT_EQ(y[i], keep ? x[i] * (1 / (1 - p)) : 0.0f) << "element " << i << " of " << n << " from " << first;
        }
      }
}

class PhiloxBlocksOf : public ::testing::TestWithParam<CpuInstructions> {};

// Also where the low half of the counter runs over, and nothing behind what is promised is written.
TEST_P(PhiloxBlocksOf, AreThoseOfPhilox) {
  if (!cpu_has(GetParam())) GTEST_SKIP() << "this processor has no " << name_of(GetParam());
  const PhiloxBlocks make = philox_blocks(GetParam());
  const RandomKey key{0x123456789ABCDEF, 0xFEDCBA987654321};
  constexpr uint32_t untouched = 77;
  for (const uint64_t first : {uint64_t{0}, uint64_t{5}, (uint64_t{1} << 32) - 9, (uint64_t{7} << 32) - 1})
    for (const int64_t blocks : {1, 7, 8, 9, 16, 17, 31, 32, 33, 70}) {
      const auto promised = static_cast<size_t>(4 * (blocks + philox_blocks_together));
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
                         testing::Values(CpuInstructions::baseline, CpuInstructions::avx2, CpuInstructions::avx512),
                         [](const auto& p) { return std::string(name_of(p.param)); });

TEST(DropoutSpan, WorksInPlace) {
  std::vector<double> x(300, 2.0), y(300);
  dropout_span<double>(x.data(), y.data(), 300, 0.25f, {1, 2}, 3);
  dropout_span<double>(x.data(), x.data(), 300, 0.25f, {1, 2}, 3);
  EXPECT_EQ(x, y);
}

}  // namespace
}  // namespace duet::ops
