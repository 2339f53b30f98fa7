#include "duet/ops/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

// Elements of the operands and of the result. Every result is rounded once, to `rounding` of itself.
template <class In, class Out>
struct Form {
  using T = In;
  using Result = Out;
  static constexpr double tolerance = std::is_same_v<In, double> ? 1e-13 : 3e-5;
  static constexpr double rounding = std::is_same_v<Out, bf16> ? 0x1p-8 : 0;
};
template <class>
class Gemm : public ::testing::Test {};
using Forms = ::testing::Types<Form<float, float>, Form<double, double>, Form<bf16, float>, Form<bf16, bf16>>;
TYPED_TEST_SUITE(Gemm, Forms);

// Matrices inside larger ones, as attention uses them: strides wider than the rows, everything around untouched.
TYPED_TEST(Gemm, StridesTransposesAlphaAndBeta) {
  using T = typename TypeParam::T;
  using Out = typename TypeParam::Result;
  Random random(RandomKey{1, 1});
  constexpr int64_t stride = 41;
  const Tensor a = random_normal({stride, stride}, random).to(dtype_of<T>());
  const Tensor b = random_normal({stride, stride}, random).to(dtype_of<T>());
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {3, 17, 5}, {33, 2, 40}, {1, 40, 16}, {40, 1, 7}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const Wide<T> alpha : {Wide<T>(1), Wide<T>(1.5)})
          for (const Wide<T> beta : {Wide<T>(0), Wide<T>(1), Wide<T>(-0.5)}) {
            const Tensor c = random_normal({stride, stride}, random).to(dtype_of<Out>()), before = c.clone();
            gemm<T, Out>(CpuContext{}, m, n, k, alpha, {a.data<T>(), stride, ta}, {b.data<T>(), stride, tb}, beta,
                         {c.data<Out>(), stride});
            for (int64_t i = 0; i < stride; ++i)
              for (int64_t j = 0; j < stride; ++j) {
                double want = before.at(i * stride + j);
                const bool inside = i < m && j < n;
                if (inside) {
                  want *= static_cast<double>(beta);
                  for (int64_t l = 0; l < k; ++l)
                    want += static_cast<double>(alpha) * a.at(ta ? l * stride + i : i * stride + l) *
                            b.at(tb ? j * stride + l : l * stride + j);
                }
                ASSERT_NEAR(c.at(i * stride + j), want,
                            inside ? TypeParam::tolerance + TypeParam::rounding * std::abs(want) : 0)
                    << m << ' ' << n << ' ' << k << ta << tb << ' ' << alpha << ' ' << beta << " at " << i << ", " << j;
              }
          }
}

TYPED_TEST(Gemm, BetaZeroOverwritesNan) {
  using T = typename TypeParam::T;
  using Out = typename TypeParam::Result;
  for (const int64_t k : {0, 3})
    for (const int alpha : {1, 2}) {
      std::vector<T> a(12, T(1));
      std::vector<Out> c(20, Out(std::numeric_limits<float>::quiet_NaN()));
      gemm<T, Out>(CpuContext{}, 4, 4, k, Wide<T>(alpha), {a.data(), 3}, {a.data(), 3, true}, 0, {c.data(), 5});
      for (size_t i = 0; i < 20; ++i) {
        const auto got = convert<double>(c[i]);
        if (i % 5 == 4)
          EXPECT_TRUE(std::isnan(got));  // between the rows
        else
          EXPECT_EQ(got, static_cast<double>(alpha * k));
      }
    }
}

TYPED_TEST(Gemm, EmptySizesTouchNothing) {
  using T = typename TypeParam::T;
  using Out = typename TypeParam::Result;
  const T one(1);
  Out c(7);
  gemm<T, Out>(CpuContext{}, 0, 1, 1, 1, {nullptr, 1}, {&one, 1}, 0, {nullptr, 1});
  gemm<T, Out>(CpuContext{}, 1, 0, 1, 1, {&one, 1}, {nullptr, 1}, 0, {nullptr, 1});
  gemm<T, Out>(CpuContext{}, 1, 1, 0, 1, {nullptr, 1}, {nullptr, 1}, 2, {&c, 1});
  EXPECT_EQ(convert<double>(c), 14);
}

// Attention calls it from every thread: there it must stay on that thread and give what it gives alone.
TYPED_TEST(Gemm, InsideAParallelLoopEqualsOneThread) {
  using T = typename TypeParam::T;
  using Out = typename TypeParam::Result;
  constexpr int64_t size = 104, jobs = 6;
  Random random(RandomKey{1, 2});
  const Tensor a = random_normal({jobs, size, size}, random).to(dtype_of<T>());
  const Tensor b = random_normal({jobs, size, size}, random).to(dtype_of<T>());
  const auto run = [&](int count) {
    const int before = threads();
    set_threads(count);
    const Tensor c = Tensor::zeros(a.shape(), dtype_of<Out>());
    parallel_for(jobs, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * size * size; i < end * size * size; i += size * size)
        gemm<T, Out>(CpuContext{}, size, size, size, 1, {a.data<T>() + i, size}, {b.data<T>() + i, size}, 0,
                     {c.data<Out>() + i, size});
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

// Large enough for several threads and for oneDNN's blocking, with edges; also the forms of forward and backward
// passes.
TYPED_TEST(Gemm, LargeProducts) {
  using T = typename TypeParam::T;
  using Out = typename TypeParam::Result;
  Random random(RandomKey{1, 3});
  // The second is large enough for float's packed products.
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{133, 97, 301}, {301, 160, 270}}) {
    const Tensor a = random_normal({m, k}, random).to(dtype_of<T>()),
                 at = random_normal({k, m}, random).to(dtype_of<T>());
    const Tensor b = random_normal({k, n}, random).to(dtype_of<T>()),
                 bt = random_normal({n, k}, random).to(dtype_of<T>());
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        const Tensor x = (ta ? at : a).to(DType::f64), y = (tb ? bt : b).to(DType::f64), want = zeros64({m, n});
        gemm<double>(CpuContext{}, m, n, k, 1, {x.data<double>(), ta ? m : k, ta}, {y.data<double>(), tb ? k : n, tb},
                     0, {want.data<double>(), n});
        const Tensor c = Tensor::empty({m, n}, dtype_of<Out>());
        gemm<T, Out>(CpuContext{}, m, n, k, 1, {(ta ? at : a).data<T>(), ta ? m : k, ta},
                     {(tb ? bt : b).data<T>(), tb ? k : n, tb}, 0, {c.data<Out>(), n});
        for (int64_t i = 0; i < c.numel(); ++i)
          ASSERT_NEAR(c.at(i), want.at(i), 4 * TypeParam::tolerance + TypeParam::rounding * std::abs(want.at(i)))
              << ta << tb << " element " << i;
      }
  }
}

// What large products are made by depends on how operands lie, and is divided among threads in both directions.
TEST(GemmFloat32, LargeProductsOnSeveralThreads) {
  const int before = threads();
  Random random(RandomKey{1, 4});
  struct Case {
    int64_t m, n, k;
    bool ta, tb;
  };
  // Rows of the right, then of the left operand are 4 KiB apart; then more rows than columns, and the other way round.
  for (const Case s :
       {Case{270, 1024, 64, false, false}, Case{1024, 150, 90, true, false}, Case{300, 140, 1024, false, false},
        Case{700, 150, 110, false, true}, Case{260, 900, 70, true, true}}) {
    const Tensor a = random_normal(s.ta ? Shape{s.k, s.m} : Shape{s.m, s.k}, random);
    const Tensor b = random_normal(s.tb ? Shape{s.n, s.k} : Shape{s.k, s.n}, random);
    const Tensor start = random_normal({s.m, s.n}, random);
    const Tensor x = a.to(DType::f32), y = b.to(DType::f32);
    for (const bool adds : {false, true}) {
      const Tensor wide_x = x.to(DType::f64), wide_y = y.to(DType::f64), want = start.to(DType::f32).to(DType::f64);
      gemm<double>(CpuContext{}, s.m, s.n, s.k, 1, {wide_x.data<double>(), a.dim(1), s.ta},
                   {wide_y.data<double>(), b.dim(1), s.tb}, adds ? 1 : 0, {want.data<double>(), s.n});
      for (const int count : {1, 2, 4, 4, 4, 5}) {
        set_threads(count);
        const Tensor c = start.to(DType::f32).clone();
        gemm<float>(CpuContext{}, s.m, s.n, s.k, 1, {x.data<float>(), a.dim(1), s.ta},
                    {y.data<float>(), b.dim(1), s.tb}, adds ? 1 : 0, {c.data<float>(), s.n});
        int64_t wrong = 0;
        for (int64_t i = 0; i < c.numel(); ++i) wrong += !(std::abs(c.at(i) - want.at(i)) < 2e-4);
        EXPECT_EQ(wrong, 0) << s.m << ' ' << s.n << ' ' << s.k << s.ta << s.tb << adds << ' ' << count << " threads";
      }
    }
  }
  set_threads(before);
}

// Rounded after the bias is added: 256 + 1 would be 256.
TEST(GemmBfloat16, ABiasIsAddedBeforeRounding) {
  for (const int64_t m : {1, 70}) {
    const int64_t n = 33, k = 256;
    const std::vector<bf16> ones(static_cast<size_t>(std::max(m, n) * k), bf16(1));
    const std::vector<float> bias(static_cast<size_t>(n), -255.5f);
    std::vector<bf16> c(static_cast<size_t>(m * n));
    for (const bool added : {true, false})
      for (const int64_t inner : {k, int64_t{0}}) {
        gemm_add_bias(CpuContext{}, m, n, inner, {ones.data(), k}, {ones.data(), k, true},
                      added ? bias.data() : nullptr, {c.data(), n});
        for (const bf16 value : c)
          ASSERT_EQ(static_cast<float>(value),
                    static_cast<float>(bf16(static_cast<float>(inner) - (added ? 255.5f : 0))));
      }
  }
}

// Lengths of texts make many shapes; more than are kept must still be right.
TEST(GemmBfloat16, MoreShapesThanAreKept) {
  std::vector<bf16> ones(1200, bf16(1)), c(1200);
  for (int64_t n = 1; n <= 1100; ++n) {
    gemm<bf16>(CpuContext{}, 1, n, 1, 1, {ones.data(), 1}, {ones.data(), n}, 0, {c.data(), n});
    ASSERT_EQ(static_cast<float>(c[static_cast<size_t>(n - 1)]), 1) << n;
  }
}

}  // namespace
}  // namespace duet::ops
