#include <gtest/gtest.h>

#include <vector>

#include "duet/ops/dropout.h"

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

TEST(DropoutSpan, WorksInPlace) {
  std::vector<double> x(300, 2.0), y(300);
  dropout_span<double>(x.data(), y.data(), 300, 0.25f, {1, 2}, 3);
  dropout_span<double>(x.data(), x.data(), 300, 0.25f, {1, 2}, 3);
  EXPECT_EQ(x, y);
}

}  // namespace
}  // namespace duet::ops
