#include "duet/ops/tile_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "duet/core/cpu.h"
#include "duet/core/dispatch.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

template <class T>
class TileProduct : public ::testing::Test {};
using Elements = ::testing::Types<float, double, bf16>;
TYPED_TEST_SUITE(TileProduct, Elements);

// Aligned as kernels want it, full of NaN: whatever is used without having been written shows.
template <class T>
Tensor poisoned(int64_t count) {
  return Tensor::full({count}, dtype_of<T>(), std::numeric_limits<double>::quiet_NaN());
}

TYPED_TEST(TileProduct, EveryNumberOfRowsAndColumnsStoredEitherWay) {
  using T = TypeParam;
  using W = Wide<T>;
  Random random(RandomKey{1, 3});
  constexpr int64_t c_stride = 101, b_stride = 110;
  for (const int64_t k : {1, 2, 5, 16, 33})
    for (const int64_t n : {1, 15, 16, 17, 32, 33, 70})
      for (int64_t m = 1; m <= 38; ++m)
        for (const bool ta : {false, true})
          for (const bool tb : {false, true}) {
            // As floating-point numbers of few bits, so that every sum is exact in every dtype.
            const auto small = [&] { return std::round(4 * random.uniform() - 2); };
            const Tensor wide = poisoned<W>(64 * tile_stride), narrow = poisoned<T>(64 * tile_stride);
            const int64_t rows = ta ? k : m, columns = ta ? m : k;
            for (int64_t i = 0; i < rows; ++i)
              for (int64_t j = 0; j < columns; ++j)
                wide.template data<W>()[i * tile_stride + j] = static_cast<W>(small());
            const Tensor b = poisoned<T>(b_stride * b_stride), arranged = poisoned<T>(arranged_size<T>(k, n));
            for (int64_t i = 0; i < (tb ? n : k); ++i)
              for (int64_t j = 0; j < (tb ? k : n); ++j) b.template data<T>()[i * b_stride + j] = convert<T>(small());
            arrange<T>(k, n, {b.template data<T>(), b_stride, tb}, arranged.template data<T>());
            const T* a = ta ? tile_of_pairs<T>(wide.template data<W>(), k, m, narrow.template data<T>())
                            : tile_of<T>(wide.template data<W>(), m, k, narrow.template data<T>());
            const Tensor c = Tensor::full({m, c_stride}, dtype_of<W>(), 3);
            for (const bool accumulate : {true, false}) {
              tile_product<T>(m, n, k, a, ta, arranged.template data<T>(), accumulate, c.template data<W>(), c_stride);
              for (int64_t i = 0; i < m; ++i)
                for (int64_t j = 0; j < c_stride; ++j) {
                  double want = 3;
                  if (j < n) {
                    want = accumulate ? 3 : 0;
                    for (int64_t l = 0; l < k; ++l)
                      want += wide.at(ta ? l * tile_stride + i : i * tile_stride + l) *
                              b.at(tb ? j * b_stride + l : l * b_stride + j);
                  }
                  ASSERT_EQ(c.at(i * c_stride + j), want)
                      << text(dtype_of<T>(), ' ', m, 'x', n, 'x', k, ' ', ta, tb, accumulate, " at ", i, ' ', j);
                }
            }
          }
}

// The kernels themselves, of which this processor's tile_product uses one or two.
#if defined(__x86_64__)
struct FloatKernels {
  const char* name;
  const detail::TileKernels& kernels;
  CpuInstructions instructions;
};
class TileKernels : public ::testing::TestWithParam<FloatKernels> {};

TEST_P(TileKernels, MultiplyFloats) {
  const auto& [name, kernels, instructions] = GetParam();
  if (!cpu_has(instructions)) GTEST_SKIP() << "this processor has no " << name_of(instructions);
  Random random(RandomKey{1, 4});
  const auto small = [&](int64_t rows, int64_t columns, int64_t stride) {
    const Tensor x = poisoned<float>(rows * stride);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        x.data<float>()[i * stride + j] = std::round(static_cast<float>(4 * random.uniform()) - 2);
    return x;
  };
  constexpr int64_t c_stride = 101, b_stride = 110;
  for (const int64_t k : {1, 5, 33})
    for (const int64_t n : {1, 17, 32, 70})
      for (int64_t m = 1; m <= 38; ++m)
        for (const bool ta : {false, true})
          for (const bool tb : {false, true})
            for (const bool accumulate : {false, true}) {
              const Tensor a = ta ? small(k, m, tile_stride) : small(m, k, tile_stride);
              const Tensor b = tb ? small(n, k, b_stride) : small(k, n, b_stride);
              const Tensor arranged = poisoned<float>(arranged_size<float>(k, n));
              const Tensor c = Tensor::full({m, c_stride}, DType::f32, 3);
              kernels.arrange(k, n, b.data<float>(), b_stride, tb, arranged.data<float>());
              kernels.product(m, n, k, a.data<float>(), ta, arranged.data<float>(), accumulate, c.data<float>(),
                              c_stride);
              for (int64_t i = 0; i < m; ++i)
                for (int64_t j = 0; j < c_stride; ++j) {
                  double want = j < n && !accumulate ? 0 : 3;
                  for (int64_t l = 0; l < k && j < n; ++l)
                    want += a.at(ta ? l * tile_stride + i : i * tile_stride + l) *
                            b.at(tb ? j * b_stride + l : l * b_stride + j);
                  ASSERT_EQ(c.at(i * c_stride + j), want)
                      << m << 'x' << n << 'x' << k << ' ' << ta << tb << accumulate << " at " << i << ' ' << j;
                }
            }
}

INSTANTIATE_TEST_SUITE_P(Float, TileKernels,
                         ::testing::Values(FloatKernels{"avx2", detail::avx2_tiles, CpuInstructions::avx2},
                                           FloatKernels{"avx512", detail::avx512_tiles, CpuInstructions::avx512},
                                           FloatKernels{"avx512_direct", detail::avx512_direct_tiles,
                                                        CpuInstructions::avx512}),
                         [](const auto& p) { return std::string(p.param.name); });
#endif

}  // namespace
}  // namespace duet::ops
