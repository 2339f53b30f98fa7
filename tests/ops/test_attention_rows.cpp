#include "duet/ops/attention_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "duet/core/philox.h"
#include "duet/ops/dropout.h"
#include "duet/ops/tile_product.h"

namespace duet::ops {
namespace {

constexpr float untouched = -77;
constexpr float probability = 0.3f, scale = 0.125f;

// Rows of a tile with made-up values, and nothing but `untouched` behind each.
std::vector<float> make_tile(int64_t rows, int64_t n, int64_t seed) {
  std::vector<float> tile(static_cast<size_t>(rows * tile_stride), untouched);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < n; ++j)
      tile[static_cast<size_t>(i * tile_stride + j)] = static_cast<float>((i * 131 + j * 71 + seed) % 157) * 0.2f - 12;
  return tile;
}
void expect_untouched_behind(const std::vector<float>& tile, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = n; j < tile_stride; ++j)
      ASSERT_EQ(tile[static_cast<size_t>(i * tile_stride + j)], untouched) << "row " << i << ", element " << j;
}

// Which numbers of a stream some rows use, and memory for them.
struct Numbers {
  std::vector<uint32_t> memory;
  Dropped<float> dropped;

  Numbers(bool drops, int64_t rows, int64_t n, int64_t first, int64_t step)
      : memory(static_cast<size_t>(dropped_rows_memory(rows, n))) {
    if (drops) dropped = dropped_rows<float>(rows, n, probability, key, first, step, memory.data());
  }
  static constexpr RandomKey key{11, 5};
  // What element j of row i is multiplied with.
  double factor(int64_t i, int64_t j) const {
    if (dropped.numbers == nullptr) return 1;
    return dropped.numbers[i * dropped.stride + j] >= dropped.threshold ? 1 / (1 - static_cast<double>(probability))
                                                                        : 0;
  }
};

class AttentionRowsOf : public ::testing::TestWithParam<CpuInstructions> {
 protected:
  void SetUp() override {
    if (!cpu_has(GetParam())) GTEST_SKIP() << "this processor has no " << name_of(GetParam());
  }
  // Calls f(rows, n, drops): rows that do and do not come out even, rows shorter than any vector, and long ones.
  template <class F>
  void for_sizes(F&& f) {
    for (const int64_t rows : {1, 2, 4, 7, 24})
      for (const int64_t n : {1, 3, 8, 15, 16, 17, 24, 65, 197, 512})
        for (const bool drops : {false, true}) {
          SCOPED_TRACE(::testing::Message() << rows << " rows of " << n << (drops ? ", some dropped" : ""));
          f(rows, n, drops);
          if (HasFatalFailure()) return;
        }
  }
  const AttentionRows<float>& math() { return attention_rows<float>(GetParam()); }
};

TEST_P(AttentionRowsOf, Softmax) {
  for_sizes([&](int64_t rows, int64_t n, bool drops) {
    const std::vector<float> scores = make_tile(rows, n, 3);
    std::vector<float> x = scores, sums(static_cast<size_t>(rows));
    // Of every other row the largest is known already, from keys before.
    std::vector<float> tops(static_cast<size_t>(rows), -std::numeric_limits<float>::infinity());
    for (size_t i = 1; i < tops.size(); i += 2) tops[i] = 5;
    const Numbers numbers(drops, rows, n, 1, n + 2);
    math().softmax(x.data(), rows, n, scale, numbers.dropped, tops.data(), sums.data());
    for (int64_t i = 0; i < rows; ++i) {
      const auto row = static_cast<size_t>(i);
      const float* s = scores.data() + i * tile_stride;
      float top = i % 2 ? 5 : s[0] * scale;
      for (int64_t j = 0; j < n; ++j) top = std::max(top, s[j] * scale);
      ASSERT_EQ(tops[row], top);
      double sum = 0;
      for (int64_t j = 0; j < n; ++j) {
        const double e = std::exp(static_cast<double>(s[j]) * scale - top);
        sum += e;
        ASSERT_NEAR(x[static_cast<size_t>(i * tile_stride + j)], e * numbers.factor(i, j), 3e-7 * (1 + e)) << j;
      }
      ASSERT_NEAR(sums[row], sum, 1e-6 * sum);
    }
    expect_untouched_behind(x, rows, n);
  });
}

TEST_P(AttentionRowsOf, SoftmaxBackward) {
  for_sizes([&](int64_t rows, int64_t n, bool drops) {
    const std::vector<float> scores = make_tile(rows, n, 3), gradients = make_tile(rows, n, 40);
    std::vector<float> log_sums, dots;
    for (int64_t i = 0; i < rows; ++i) {
      log_sums.push_back(2 + 0.1f * static_cast<float>(i));
      dots.push_back(0.5f - 0.2f * static_cast<float>(i));
    }
    const Numbers numbers(drops, rows, n, 6, n);
    for (const bool with_gradients : {true, false}) {
      std::vector<float> p = scores, d = gradients;
      math().softmax_backward(p.data(), with_gradients ? d.data() : nullptr, rows, n, scale, numbers.dropped,
                              log_sums.data(), with_gradients ? dots.data() : nullptr);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < n; ++j) {
          const auto at = static_cast<size_t>(i * tile_stride + j);
          const double e = std::exp(static_cast<double>(scores[at]) * scale - log_sums[static_cast<size_t>(i)]);
          const double g = gradients[at] * numbers.factor(i, j) - dots[static_cast<size_t>(i)];
          ASSERT_NEAR(p[at], e * numbers.factor(i, j), 1e-6 * e) << i << ' ' << j;
          ASSERT_NEAR(d[at], with_gradients ? e * g * scale : gradients[at], 2e-6 * (1 + std::abs(e * g)))
              << i << ' ' << j;
        }
      expect_untouched_behind(p, rows, n);
      expect_untouched_behind(d, rows, n);
    }
  });
}

// What is dropped is gone, whatever it was; else NaN stays NaN, in its own row alone, and is not the largest.
TEST_P(AttentionRowsOf, NaN) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr int64_t rows = 5, n = 19;
  for (const int64_t at : {int64_t{0}, int64_t{16}, n - 1}) {
    std::vector<float> x = make_tile(rows, n, 3), sums(rows), tops(rows, -std::numeric_limits<float>::infinity());
    x[static_cast<size_t>(tile_stride + at)] = nan;
    std::vector<float> p = x, d = make_tile(rows, n, 9);
    math().softmax(x.data(), rows, n, scale, {}, tops.data(), sums.data());
    for (size_t i = 0; i < rows; ++i) {
      EXPECT_EQ(std::isnan(sums[i]), i == 1) << i;
      EXPECT_TRUE(std::isfinite(tops[i])) << i;
    }
    const std::vector<float> ones(rows, 1);
    math().softmax_backward(p.data(), d.data(), rows, n, scale, {}, ones.data(), ones.data());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < n; ++j)
        EXPECT_EQ(std::isnan(d[static_cast<size_t>(i * tile_stride + j)]), i == 1 && j == at) << i << ' ' << j;

    const Numbers numbers(true, rows, n, 0, n);
    std::vector<float> gradients(static_cast<size_t>(rows * tile_stride), nan);
    p = make_tile(rows, n, 3);
    math().softmax_backward(p.data(), gradients.data(), rows, n, scale, numbers.dropped, ones.data(), ones.data());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < n; ++j)
        EXPECT_EQ(std::isnan(gradients[static_cast<size_t>(i * tile_stride + j)]), numbers.factor(i, j) > 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Set, AttentionRowsOf,
                         ::testing::Values(CpuInstructions::baseline, CpuInstructions::avx2, CpuInstructions::avx512),
                         [](const auto& p) { return std::string(name_of(p.param)); });

// The double version against the float one, which the tests above have checked.
TEST(AttentionRows, InDouble) {
  constexpr int64_t rows = 5, n = 19;
  const std::vector<float> scores = make_tile(rows, n, 3), gradients = make_tile(rows, n, 40);
  for (const bool drops : {false, true}) {
    const Numbers numbers(drops, rows, n, 2, n);
    const Dropped<double> dropped{numbers.dropped.numbers, numbers.dropped.stride, numbers.dropped.threshold,
                                  numbers.dropped.keep};
    std::vector<float> x = scores, d = gradients, tops(rows, -1), sums(rows), ones(rows, 1);
    std::vector<double> x2(x.begin(), x.end()), d2(d.begin(), d.end()), tops2(rows, -1), sums2(rows), ones2(rows, 1);
    const auto expect_same = [&] {
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_NEAR(x[i], x2[i], 1e-6 * (1 + std::abs(x2[i]))) << i;
        ASSERT_NEAR(d[i], d2[i], 1e-5 * (1 + std::abs(d2[i]))) << i;
      }
    };
    attention_rows<float>().softmax(x.data(), rows, n, scale, numbers.dropped, tops.data(), sums.data());
    attention_rows<double>().softmax(x2.data(), rows, n, scale, dropped, tops2.data(), sums2.data());
    expect_same();
    for (size_t i = 0; i < rows; ++i) {
      EXPECT_NEAR(tops[i], tops2[i], 1e-6);
      EXPECT_NEAR(sums[i], sums2[i], 1e-5);
    }
    attention_rows<float>().softmax_backward(x.data(), d.data(), rows, n, scale, numbers.dropped, ones.data(),
                                             ones.data());
    attention_rows<double>().softmax_backward(x2.data(), d2.data(), rows, n, scale, dropped, ones2.data(),
                                              ones2.data());
    expect_same();
    attention_rows<double>().softmax_backward(x2.data(), nullptr, rows, n, scale, dropped, ones2.data(), nullptr);
    attention_rows<float>().softmax_backward(x.data(), nullptr, rows, n, scale, numbers.dropped, ones.data(), nullptr);
    expect_same();
  }
}

// Rows that lie close, that overlap no block, and far apart: the numbers are those of the stream's positions, and
// nothing is written behind what dropped_rows_memory promises.
TEST(DroppedRows, HaveTheirPlacesInTheStream) {
  const RandomKey key{3, 9};
  for (const int64_t rows : {1, 2, 24})
    for (const int64_t n : {1, 10, 24, 60, 64, 65, 197})
      for (const int64_t gap : {0, 1, 3, 30, 500})
        for (const int64_t first : {int64_t{0}, int64_t{7}, (int64_t{1} << 34) - 5}) {
          const int64_t step = n + gap;
          std::vector<uint32_t> memory(static_cast<size_t>(dropped_rows_memory(rows, n)) + 4, 99);
          const Dropped<float> dropped = dropped_rows<float>(rows, n, probability, key, first, step, memory.data());
          EXPECT_EQ(dropped.threshold, static_cast<uint32_t>(static_cast<double>(probability) * 0x1p32));
          EXPECT_FLOAT_EQ(dropped.keep, 1 / (1 - probability));
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < n; ++j) {
              const auto position = static_cast<uint64_t>(first + i * step + j);
              ASSERT_EQ(dropped.numbers[i * dropped.stride + j], philox(key, position / 4)[position % 4])
                  << rows << " rows of " << n << ", " << step << " apart, from " << first << ": " << i << ' ' << j;
            }
          for (size_t i = memory.size() - 4; i < memory.size(); ++i) ASSERT_EQ(memory[i], 99u);
        }
}

}  // namespace
}  // namespace duet::ops
