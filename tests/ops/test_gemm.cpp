#include "duet/ops/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "duet/core/parallel.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

template <class T>
class Gemm : public ::testing::Test {};
using Elements = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Gemm, Elements);

// Matrices inside larger ones, as attention uses them: strides wider than the rows, everything around untouched.
TYPED_TEST(Gemm, StridesTransposesAlphaAndBeta) {
  using T = TypeParam;
  Random random(RandomKey{1, 1});
  constexpr int64_t stride = 41;
  const Tensor a = random_normal({stride, stride}, random).to(dtype_of<T>());
  const Tensor b = random_normal({stride, stride}, random).to(dtype_of<T>());
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {3, 17, 5}, {33, 2, 40}, {1, 40, 16}, {40, 1, 7}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const T beta : {T(0), T(1), T(-0.5)}) {
          const Tensor c = random_normal({stride, stride}, random).to(dtype_of<T>()), before = c.clone();
          gemm<T>(CpuContext{}, m, n, k, T(1.5), {a.data<T>(), stride, ta}, {b.data<T>(), stride, tb}, beta,
                  {c.data<T>(), stride});
          for (int64_t i = 0; i < stride; ++i)
            for (int64_t j = 0; j < stride; ++j) {
              double want = before.at(i * stride + j);
              if (i < m && j < n) {
                want *= static_cast<double>(beta);
                for (int64_t l = 0; l < k; ++l)
                  want += 1.5 * a.at(ta ? l * stride + i : i * stride + l) * b.at(tb ? j * stride + l : l * stride + j);
              }
              ASSERT_NEAR(c.at(i * stride + j), want, sizeof(T) == 4 ? 3e-5 : 1e-13)
                  << m << ' ' << n << ' ' << k << ta << tb << " at " << i << ", " << j;
            }
        }
}

TYPED_TEST(Gemm, BetaZeroOverwritesNan) {
  using T = TypeParam;
  for (const int64_t k : {0, 3}) {
    std::vector<T> a(12, T(1)), c(20, std::numeric_limits<T>::quiet_NaN());
    gemm<T>(CpuContext{}, 4, 4, k, T(1), {a.data(), 3}, {a.data(), 3, true}, T(0), {c.data(), 5});
    for (size_t i = 0; i < 20; ++i) {
      if (i % 5 == 4)
        EXPECT_TRUE(std::isnan(c[i]));  // between the rows
      else
        EXPECT_EQ(c[i], T(k));
    }
  }
}

TYPED_TEST(Gemm, EmptySizesTouchNothing) {
  using T = TypeParam;
  T one = 7;
  gemm<T>(CpuContext{}, 0, 1, 1, T(1), {nullptr, 1}, {&one, 1}, T(0), {nullptr, 1});
  gemm<T>(CpuContext{}, 1, 0, 1, T(1), {&one, 1}, {nullptr, 1}, T(0), {nullptr, 1});
  gemm<T>(CpuContext{}, 1, 1, 0, T(1), {nullptr, 1}, {nullptr, 1}, T(2), {&one, 1});
  EXPECT_EQ(one, T(14));
}

// Attention calls it from every thread: there it must stay on that thread and give what it gives alone.
TYPED_TEST(Gemm, InsideAParallelLoopEqualsOneThread) {
  using T = TypeParam;
  constexpr int64_t size = 70, jobs = 6;
  Random random(RandomKey{1, 2});
  const Tensor a = random_normal({jobs, size, size}, random).to(dtype_of<T>());
  const Tensor b = random_normal({jobs, size, size}, random).to(dtype_of<T>());
  const auto run = [&](int count) {
    const int before = threads();
    set_threads(count);
    const Tensor c = zeros_like(a);
    parallel_for(jobs, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * size * size; i < end * size * size; i += size * size)
        gemm<T>(CpuContext{}, size, size, size, T(1), {a.data<T>() + i, size}, {b.data<T>() + i, size}, T(0),
                {c.data<T>() + i, size});
    });
    set_threads(before);
    return c;
  };
  const Tensor alone = run(1);
  for (const int count : {2, 3, 3}) {
    const Tensor c = run(count);
    for (int64_t i = 0; i < c.numel(); ++i) ASSERT_EQ(c.at(i), alone.at(i)) << count << " threads, element " << i;
  }
}

}  // namespace
}  // namespace duet::ops
