#include "duet/ops/packed_gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "duet/core/cpu.h"
#include "duet/core/parallel.h"
#include "duet/tests/ops/op_cases.h"

// The kernels are there on x86-64 only.
#if defined(__x86_64__)
namespace duet::ops {
namespace {

struct Sizes {
  int64_t m, n, k;
};

// Hands out rows to one thread.
class OneThread final : public detail::RowSharing {
 public:
  void open(const detail::PackedBlock&, int64_t groups) override {
    next_ = 0;
    groups_ = groups;
  }
  int64_t take() override { return next_ < groups_ ? next_++ : -1; }
  void close() override {}

 private:
  int64_t next_ = 0, groups_ = 0;
};

enum class Kernels { avx2, avx512, avx512_direct, avx512_widened, avx512_widened_to_float };

std::string name_of(Kernels kernels) {
  switch (kernels) {
    case Kernels::avx2:
      return "avx2";
    case Kernels::avx512:
      return "avx512";
    case Kernels::avx512_direct:
      return "avx512_direct";
    case Kernels::avx512_widened:
      return "avx512_widened";
    case Kernels::avx512_widened_to_float:
      return "avx512_widened_to_float";
  }
  return "";
}

class PackedGemm : public ::testing::TestWithParam<Kernels> {
 protected:
  static CpuInstructions instructions() {
    return GetParam() == Kernels::avx2 ? CpuInstructions::avx2 : CpuInstructions::avx512;
  }
  void SetUp() override {
    if (!cpu_has(instructions())) GTEST_SKIP() << "this processor has no " << duet::name_of(instructions());
  }
  // Calls f(kernels, an element of the operands, an element of the result).
  template <class F>
  static void with_kernels(F&& f) {
    switch (GetParam()) {
      case Kernels::avx2:
        return f(detail::avx2_packed_gemm, float{}, float{});
      case Kernels::avx512:
        return f(detail::avx512_packed_gemm, float{}, float{});
      case Kernels::avx512_direct:
        return f(detail::avx512_direct_gemm, float{}, float{});
      case Kernels::avx512_widened:
        return f(detail::avx512_widened_gemm, bf16{}, bf16{});
      case Kernels::avx512_widened_to_float:
        return f(detail::avx512_widened_gemm_to_float, bf16{}, float{});
    }
  }

  // Numbers of which sums of thousands are exact in float, so that results can be compared to the bit.
  template <class T>
  static Tensor numbers(int64_t rows, int64_t columns, Random& random) {
    Tensor x = Tensor::empty({rows, columns}, dtype_of<T>());
    for (int64_t i = 0; i < x.numel(); ++i) x.data<T>()[i] = static_cast<T>(static_cast<float>(random.below(9)) - 4);
    return x;
  }

  // Rows with gaps between them; what is not to be read, and what c holds where it is overwritten, is NaN.
  template <class T, class Out>
  static void expect_product(const detail::PackedGemm<T, Out>& packed, Sizes s, bool ta, bool tb, bool adds,
                             bool with_bias) {
    constexpr int64_t gap = 3;
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    Random random(RandomKey{7, static_cast<uint64_t>(s.m * 31 + s.n * 7 + s.k)});
    const auto spaced = [&]<class E>(const Tensor& x, E) {
      Tensor y = Tensor::full({x.dim(0), x.dim(1) + gap}, dtype_of<E>(), nan);
      for (int64_t i = 0; i < x.dim(0); ++i)
        std::copy_n(x.data<E>() + i * x.dim(1), x.dim(1), y.data<E>() + i * y.dim(1));
      return y;
    };
    const Tensor a = numbers<T>(ta ? s.k : s.m, ta ? s.m : s.k, random),
                 b = numbers<T>(tb ? s.n : s.k, tb ? s.k : s.n, random);
    const Tensor before = numbers<Out>(s.m, s.n, random), bias = numbers<float>(1, s.n, random);
    const Tensor left = spaced(a, T{}), right = spaced(b, T{});
    const Tensor c = adds ? spaced(before, Out{}) : Tensor::full({s.m, s.n + gap}, dtype_of<Out>(), nan);
    // Nothing may depend on what the memory held, or be written behind its end.
    const int64_t size = packed.scratch(s.m, s.n, s.k);
    constexpr int64_t guard = 64;
    const Tensor scratch = Tensor::full({size + guard}, DType::f32, nan);
    OneThread alone;
    packed.run(s.m, s.n, s.k, nullptr, {left.data<T>(), left.dim(1), ta}, {right.data<T>(), right.dim(1), tb},
               with_bias ? bias.data<float>() : nullptr, adds, {c.data<Out>(), c.dim(1)}, scratch.data<float>(), alone);
    for (int64_t i = 0; i < guard; ++i) ASSERT_TRUE(std::isnan(scratch.at(size + i)));
    // In double, which test_gemm compares with sums of its own.
    const Tensor wide_a = a.to(DType::f64), wide_b = b.to(DType::f64);
    const Tensor sums = adds ? before.to(DType::f64) : Tensor::zeros({s.m, s.n}, DType::f64);
    gemm<double>(CpuContext{}, s.m, s.n, s.k, 1, {wide_a.data<double>(), a.dim(1), ta},
                 {wide_b.data<double>(), b.dim(1), tb}, 1, {sums.data<double>(), s.n});
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < s.n + gap; ++j) {
        const double got = c.at(i * c.dim(1) + j);
        if (j >= s.n) {
          ASSERT_TRUE(std::isnan(got)) << "written behind row " << i;
          continue;
        }
        const double sum = sums.at(i * s.n + j) + (with_bias ? bias.at(j) : 0);
        const double want = static_cast<float>(static_cast<Out>(static_cast<float>(sum)));
        ASSERT_EQ(got, want) << s.m << ' ' << s.n << ' ' << s.k << ' ' << ta << tb << adds << with_bias << " at " << i
                             << ", " << j;
      }
  }
  static void expect_all_forms(Sizes s) {
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const bool adds : {false, true})
          for (const bool bias : {false, true})
            with_kernels([&]<class T, class Out>(const detail::PackedGemm<T, Out>& packed, T, Out) {
              expect_product(packed, s, ta, tb, adds, bias);
            });
  }
};

TEST_P(PackedGemm, EveryNumberOfRows) {
  for (int64_t m = 1; m <= 35; ++m) expect_all_forms({m, 33, 20});
  for (int64_t m = 63; m <= 66; ++m) expect_all_forms({m, 33, 20});
}

TEST_P(PackedGemm, EveryNumberOfColumns) {
  for (int64_t n = 1; n <= 66; ++n) expect_all_forms({15, n, 20});
}

TEST_P(PackedGemm, EveryNumberOfTerms) {
  for (int64_t k = 1; k <= 70; ++k) expect_all_forms({17, 35, k});
}

// Few and many columns beside what is held in panels at a time, one and several pieces, which differ in length, and
// several groups of rows, the last one smaller.
TEST_P(PackedGemm, BlocksAndPieces) {
  for (const int64_t k : {440, 441, 1024, 1025, 2499})
    for (const int64_t n : {40, 300}) expect_all_forms({61, n, k});
  expect_all_forms({130, 450, 512});
  expect_all_forms({3, 260, 1700});
}

// A function of the left operand, made on the way, gives what the product of its results gives.
TEST_P(PackedGemm, OfAFunctionOfTheLeftOperand) {
  const auto check_all = [&]<class T, class Out>(const detail::PackedGemm<T, Out>& packed, T, Out) {
    const auto reversed = [](const T* x, T* y, int64_t n) {
      for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(2 - static_cast<float>(x[i]));
    };
    for (const Sizes s :
         {Sizes{1, 3, 1}, {13, 33, 31}, {14, 32, 32}, {61, 70, 100}, {130, 450, 512}, {61, 300, 2499}}) {
      Random random(RandomKey{5, 7});
      const Tensor a = numbers<T>(s.m, s.k, random), b = numbers<T>(s.n, s.k, random), f_of_a = a.clone();
      reversed(a.data<T>(), f_of_a.data<T>(), a.numel());
      const Tensor bias = numbers<float>(1, s.n, random);
      const auto product = [&](SpanFunction<T> f, const Tensor& left) {
        const Tensor c = Tensor::empty({s.m, s.n}, dtype_of<Out>());
        const Tensor scratch = Tensor::empty({packed.scratch(s.m, s.n, s.k)}, DType::f32);
        OneThread alone;
        packed.run(s.m, s.n, s.k, f, {left.data<T>(), s.k}, {b.data<T>(), s.k, true}, bias.data<float>(), false,
                   {c.data<Out>(), s.n}, scratch.data<float>(), alone);
        return c;
      };
      const Tensor got = product(reversed, a), want = product(nullptr, f_of_a);
      for (int64_t i = 0; i < s.m * s.n; ++i) ASSERT_EQ(got.at(i), want.at(i)) << s.m << ' ' << s.k << ' ' << i;
    }
  };
  with_kernels(check_all);
}

// Rows that others compute, while the thread whose product it is computes some too, and all of them.
TEST_P(PackedGemm, RowsComputedByOthers) {
  class Shared final : public detail::RowSharing {
   public:
    Shared(bool all, void (*compute)(const detail::PackedBlock&, int64_t)) : all_(all), compute_(compute) {}
    void open(const detail::PackedBlock& block, int64_t groups) override {
      const int64_t kept = all_ ? 0 : groups / 2;
      helper_ = std::thread([this, &block, kept, groups] {
        for (int64_t i = groups - 1; i >= kept; --i) compute_(block, i);
      });
      next_ = 0;
      kept_ = kept;
    }
    int64_t take() override { return next_ < kept_ ? next_++ : -1; }
    void close() override {
      helper_.join();
      ++blocks;
    }
    int blocks = 0;

   private:
    bool all_;
    void (*compute_)(const detail::PackedBlock&, int64_t);
    int64_t next_ = 0, kept_ = 0;
    std::thread helper_;
  };
  const auto check_all = [&]<class T, class Out>(const detail::PackedGemm<T, Out>& packed, T, Out) {
    for (const bool all : {false, true})
      for (const bool transposed : {false, true}) {
        constexpr Sizes s{150, 390, 2000};
        Random random(RandomKey{5, 6});
        const Tensor a = numbers<T>(transposed ? s.k : s.m, transposed ? s.m : s.k, random),
                     b = numbers<T>(s.n, s.k, random);
        const auto product = [&](detail::RowSharing& sharing) {
          const Tensor c = Tensor::empty({s.m, s.n}, dtype_of<Out>());
          const Tensor scratch = Tensor::empty({packed.scratch(s.m, s.n, s.k)}, DType::f32);
          packed.run(s.m, s.n, s.k, nullptr, {a.data<T>(), a.dim(1), transposed}, {b.data<T>(), s.k, true}, nullptr,
                     false, {c.data<Out>(), s.n}, scratch.data<float>(), sharing);
          return c;
        };
        OneThread alone;
        Shared shared(all, packed.rows);
        const Tensor want = product(alone), got = product(shared);
        EXPECT_GT(shared.blocks, 3);
        for (int64_t i = 0; i < s.m * s.n; ++i)
          ASSERT_EQ(got.at(i), want.at(i)) << all << transposed << " element " << i;
      }
  };
  with_kernels(check_all);
}

// Each element adds up its terms in one order, wherever its rows and columns are cut.
TEST_P(PackedGemm, BitsDoNotDependOnTheNumberOfThreads) {
  constexpr int64_t m = 301, n = 333, k = 2403;
  const auto check_all = [&]<class T, class Out>(const detail::PackedGemm<T, Out>& packed, T, Out) {
    Random random(RandomKey{3, 4});
    const Tensor a = random_normal({m, k}, random).to(dtype_of<T>()),
                 b = random_normal({n, k}, random).to(dtype_of<T>());
    const Tensor bias = random_normal({n}, random).to(DType::f32);
    const Tensor before = random_normal({m, n}, random).to(dtype_of<Out>());
    const auto product = [&](int count, bool adds) {
      set_threads(count);
      const Tensor c = adds ? before.clone() : Tensor::empty({m, n}, dtype_of<Out>());
      detail::packed_gemm<T, Out>(packed, m, n, k, {a.data<T>(), k}, {b.data<T>(), k, true},
                                  adds ? nullptr : bias.data<float>(), adds, {c.data<Out>(), n});
      return c;
    };
    const int threads_before = threads();
    for (const bool adds : {false, true}) {
      const Tensor one = product(1, adds);
      for (const int count : {2, 3, 6}) {
        const Tensor many = product(count, adds);
        int64_t different = 0;
        for (int64_t i = 0; i < m * n; ++i) different += one.at(i) != many.at(i);
        EXPECT_EQ(different, 0) << count << " threads";
      }
      for (int64_t i = 0; i < m; i += 50)
        for (int64_t j = 0; j < n; ++j) {
          double want = adds ? before.at(i * n + j) : bias.at(j);
          for (int64_t l = 0; l < k; ++l) want += a.at(i * k + l) * b.at(j * k + l);
          // Partial sums reach about 50, so that each addition is off by up to 2e-6; twice what 2,403 of them add up to
          // at worst. bfloat16 is off by half a unit of its eighth bit on top.
          const double rounding = std::is_same_v<Out, bf16> ? std::abs(want) / 256 : 0;
          ASSERT_NEAR(one.at(i * n + j), want, 4e-4 + rounding) << i << ", " << j;
        }
    }
    set_threads(threads_before);
  };
  with_kernels(check_all);
}

INSTANTIATE_TEST_SUITE_P(Kernels, PackedGemm,
                         ::testing::Values(Kernels::avx2, Kernels::avx512, Kernels::avx512_direct,
                                           Kernels::avx512_widened, Kernels::avx512_widened_to_float),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace duet::ops
#endif
