#include "duet/ops/vector_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "duet/core/error.h"
#include "duet/core/philox.h"

namespace duet::ops {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity(),
                not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float lowest = std::numeric_limits<float>::lowest();

using Reference = double (*)(double);

double gelu_reference(double x) {
  return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
}
double gelu_derivative_reference(double x) {
  return 0.5 * std::erfc(-x / std::numbers::sqrt2) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
}
double gelu_tanh_reference(double x) {
  const double k = std::sqrt(2 / std::numbers::pi);
  // 1 + tanh(z) = 2 / (1 + exp(-2 z)) does not cancel.
  return x / (1 + std::exp(-2 * k * (x + 0.044715 * x * x * x)));
}
double gelu_tanh_derivative_reference(double x) {
  const double k = std::sqrt(2 / std::numbers::pi), c = std::clamp(x, -30.0, 30.0);
  const double z = k * (c + 0.044715 * c * c * c), s = 1 / (1 + std::exp(-2 * z));
  return s + c * 2 * s * (1 - s) * k * (1 + 0.134145 * c * c);
}

// One unit of the last place of float at `value`.
double unit(double value) {
  return value == 0 ? 0x1p-149 : std::max(std::ldexp(1.0, std::ilogb(value) - 23), 0x1p-149);
}
double ulps(float got, double exact) {
  if (std::abs(exact) > static_cast<double>(std::numeric_limits<float>::max()))
    return static_cast<double>(got) == std::copysign(static_cast<double>(infinity), exact) ? 0 : 1e9;
  return std::abs(static_cast<double>(got) - exact) / unit(exact);
}

// Every `step`-th bit pattern of float, all magnitudes from denormal to huge, both signs, NaN left out; then 500000
// numbers in [-105, 105] and as many in [-10, 10], where the functions do their work.
const std::vector<float>& sweep() {
  static const std::vector<float> all = [] {
    std::vector<float> x;
    for (uint64_t bits = 0; bits <= 0xFFFFFFFFu; bits += 4001) {
      const float v = std::bit_cast<float>(static_cast<uint32_t>(bits));
      if (v == v) x.push_back(v);
    }
    for (const double end : {105.0, 10.0})
      for (int i = 0; i < 500000; ++i) x.push_back(static_cast<float>(end * (i / 250000.0 - 1)));
    return x;
  }();
  return all;
}

template <class T>
struct Function {
  const char* name;
  void (*VectorMath<T>::*span)(const T*, T*, int64_t);
  Reference exact;
};
template <class T>
struct Derivative {
  const char* name;
  void (*VectorMath<T>::*span)(const T*, const T*, T*, int64_t);
  Reference exact;
};
template <class T>
const Function<T> functions[] = {
    {"exp", &VectorMath<T>::exp, [](double x) { return std::exp(x); }},
    {"erf", &VectorMath<T>::erf, [](double x) { return std::erf(x); }},
    {"tanh", &VectorMath<T>::tanh, [](double x) { return std::tanh(x); }},
    {"gelu", &VectorMath<T>::gelu, gelu_reference},
    {"gelu_tanh", &VectorMath<T>::gelu_tanh, gelu_tanh_reference},
};
template <class T>
const Derivative<T> derivatives[] = {
    {"gelu_backward", &VectorMath<T>::gelu_backward, gelu_derivative_reference},
    {"gelu_tanh_backward", &VectorMath<T>::gelu_tanh_backward, gelu_tanh_derivative_reference},
};

class VectorMathOf : public ::testing::TestWithParam<CpuInstructions> {
 protected:
  void SetUp() override {
    if (!cpu_has(GetParam())) GTEST_SKIP() << "this processor lacks " << name_of(GetParam());
  }
  const VectorMath<float>& math() { return vector_math<float>(GetParam()); }
  const VectorMath<bf16>& math_bf16() { return vector_math<bf16>(GetParam()); }
  std::vector<float> results(const char* name, const std::vector<float>& x) {
    std::vector<float> y(x.size()), ones(x.size(), 1.0f);
    const auto n = static_cast<int64_t>(x.size());
    for (const auto& f : functions<float>)
      if (std::string_view(f.name) == name) (math().*f.span)(x.data(), y.data(), n);
    for (const auto& f : derivatives<float>)
      if (std::string_view(f.name) == name) (math().*f.span)(x.data(), ones.data(), y.data(), n);
    return y;
  }
  static Reference exact(const char* name) {
    for (const auto& f : functions<float>)
      if (std::string_view(f.name) == name) return f.exact;
    for (const auto& f : derivatives<float>)
      if (std::string_view(f.name) == name) return f.exact;
    fail("test", "no function ", name);
  }

  // The largest error over the sweep, in what `error(x, got, exact)` measures, must not exceed `limit`.
  template <class Error>
  void expect_within(double limit, const char* name, Error error) {
    const std::vector<float>& x = sweep();
    const std::vector<float> y = results(name, x);
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isinf(x[i])) continue;
      const double e = error(static_cast<double>(x[i]), y[i], exact(name)(static_cast<double>(x[i])));
      if (!(e <= worst)) worst = e, at = i;
    }
    EXPECT_LE(worst, limit) << name << " at " << x[at] << ": " << y[at];
    RecordProperty(name, std::to_string(worst));
  }
};
std::string instructions_name(const ::testing::TestParamInfo<CpuInstructions>& set) {
  return std::string(name_of(set.param));
}
INSTANTIATE_TEST_SUITE_P(Set, VectorMathOf,
                         ::testing::Values(CpuInstructions::baseline, CpuInstructions::avx2, CpuInstructions::avx512),
                         instructions_name);

TEST_P(VectorMathOf, FunctionsAreAccurate) {
  const auto of_result = [](double, float got, double exact_value) { return ulps(got, exact_value); };
  const auto of_x = [](double x, float got, double exact_value) {
    return std::isfinite(got) ? std::abs(static_cast<double>(got) - exact_value) / unit(x) : 1e9;
  };
  expect_within(1.1, "exp", of_result);
  expect_within(1.3, "tanh", of_result);
  expect_within(4.1, "erf", of_result);
  expect_within(2, "gelu", of_x);
  expect_within(1.5, "gelu_tanh", of_x);
  expect_within(2.3, "gelu_tanh", [](double x, float got, double e) { return x < -1 ? 0 : ulps(got, e); });
}

TEST_P(VectorMathOf, DerivativesAreAccurate) {
  const auto of_one = [](double, float got, double exact_value) {
    return std::isfinite(got) ? std::abs(static_cast<double>(got) - exact_value) / unit(1) : 1e9;
  };
  expect_within(2.6, "gelu_backward", of_one);
  expect_within(1.7, "gelu_tanh_backward", of_one);
}

TEST_P(VectorMathOf, SpecialValues) {
  const auto at = [&](const char* name, float x) { return results(name, {x})[0]; };
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const auto& f : functions<float>) EXPECT_TRUE(std::isnan(at(f.name, not_a_number))) << f.name;
  for (const auto& f : derivatives<float>) EXPECT_TRUE(std::isnan(at(f.name, not_a_number))) << f.name;
  EXPECT_EQ(at("exp", infinity), infinity);
  EXPECT_EQ(at("exp", -infinity), 0);
  EXPECT_EQ(at("exp", 0), 1);
  EXPECT_EQ(at("exp", 88.8f), infinity);
  EXPECT_GT(at("exp", -103), 0);
  for (const char* f : {"erf", "tanh"}) {
    EXPECT_EQ(at(f, infinity), 1) << f;
    EXPECT_EQ(at(f, -infinity), -1) << f;
    EXPECT_EQ(at(f, 3e38f), 1) << f;
    EXPECT_EQ(at(f, 0), 0) << f;
    EXPECT_TRUE(std::signbit(at(f, -0.0f))) << f;
    EXPECT_EQ(at(f, tiny), tiny) << f;  // the derivative of erf at 0 is 1.128
    for (float x = 0; x < 12; x += 1e-3f) ASSERT_LE(at(f, x), 1.0f) << f << ' ' << x;
  }
  for (const char* f : {"gelu", "gelu_tanh"}) {
    EXPECT_EQ(at(f, infinity), infinity) << f;
    EXPECT_TRUE(std::isnan(at(f, -infinity))) << f << ": -inf * 0";
    for (const float x : {1e10f, 1e20f, 3e38f}) {
      EXPECT_EQ(at(f, x), x) << f;
      EXPECT_EQ(at(f, -x), 0) << f;
    }
  }
  for (const auto& f : derivatives<float>)
    for (const float x : {1e10f, 1e20f, 3e38f, infinity}) {
      EXPECT_EQ(at(f.name, x), 1) << f.name;
      EXPECT_NEAR(at(f.name, -x), 0, 2e-38) << f.name;
    }
}

// What `span(x, y, n)` writes must be what it writes of each element alone, at every length and alignment; it must stay
// within the span, and may work in place.
template <class T, class Span>
void expect_elementwise(const char* name, Span span) {
  constexpr int64_t most = 70, room = most + 24;
  std::vector<T> x(room), alone(room);
  for (int64_t i = 0; i < room; ++i) x[static_cast<size_t>(i)] = static_cast<T>(0.37f * static_cast<float>(i - 40));
  for (size_t i = 0; i < x.size(); ++i) span(&x[i], &alone[i], 1);
  const auto same = [](T a, T b) { return std::memcmp(&a, &b, sizeof(T)) == 0; };
  for (int64_t n = 0; n <= most; ++n)
    for (const int64_t from : {0, 1, 3, 8}) {
      const auto to = static_cast<size_t>(n % 5 + 1), begin = static_cast<size_t>(from), count = static_cast<size_t>(n);
      std::vector<T> y(room, static_cast<T>(7.0f)), in_place = x;
      span(&x[begin], &y[to], n);
      span(&in_place[begin], &in_place[begin], n);
      for (size_t i = 0; i < y.size(); ++i) {
        const bool inside = i >= to && i < to + count;
        ASSERT_TRUE(same(y[i], inside ? alone[i - to + begin] : static_cast<T>(7.0f))) << name << ' ' << n << ' ' << i;
        const bool changed = i >= begin && i < begin + count;
        ASSERT_TRUE(same(in_place[i], changed ? alone[i] : x[i])) << name << ' ' << n << ' ' << i;
      }
    }
}
template <class T>
void expect_all_elementwise(const VectorMath<T>& math) {
  for (const auto& f : functions<T>) expect_elementwise<T>(f.name, math.*f.span);
  for (const auto& f : derivatives<T>)
    expect_elementwise<T>(f.name, [&](const T* x, T* y, int64_t n) {
      const std::vector<T> dy(static_cast<size_t>(n), static_cast<T>(1.5f));
      (math.*f.span)(x, dy.data(), y, n);
    });
}
TEST_P(VectorMathOf, EveryLengthAndAlignment) {
  expect_all_elementwise(math());
  expect_all_elementwise(math_bf16());
  expect_elementwise<float>("scale", [&](const float* x, float* y, int64_t n) { math().scale(x, y, n, 0.3f); });
  expect_elementwise<float>("exponentials",
                            [&](const float* x, float* y, int64_t n) { math().exponentials(x, y, n, 0.3f, 0.1f); });
}

// bf16 is what float gives, rounded once.
TEST_P(VectorMathOf, Bfloat16RoundsTheFloatResult) {
  std::vector<bf16> x(1 << 16), y(x.size()), ones(x.size(), bf16(1.0f));
  std::vector<float> wide(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i].bits = static_cast<uint16_t>(i), wide[i] = static_cast<float>(x[i]);
  const auto n = static_cast<int64_t>(x.size());
  const auto compare = [&](const char* name) {
    const std::vector<float> of_wide = results(name, wide);
    for (size_t i = 0; i < x.size(); ++i) {
      const float got = static_cast<float>(y[i]);
      if (std::isnan(of_wide[i]))
        ASSERT_TRUE(std::isnan(got)) << name << ' ' << wide[i];
      else
        ASSERT_EQ(y[i].bits, bf16(of_wide[i]).bits) << name << ' ' << wide[i];
    }
  };
  for (const auto& f : functions<bf16>) {
    (math_bf16().*f.span)(x.data(), y.data(), n);
    compare(f.name);
  }
  for (const auto& f : derivatives<bf16>) {
    (math_bf16().*f.span)(x.data(), ones.data(), y.data(), n);
    compare(f.name);
  }
}

// With the processor's own instruction the bits are the same, those of subnormal numbers too.
TEST(VectorMath, RoundingWithAvx512Bf16GivesTheSameBits) {
#ifdef __x86_64__
  if (!cpu_has(CpuInstructions::avx512) || !cpu_has_bfloat16()) GTEST_SKIP() << "this processor has no AVX512-BF16";
  const auto expect_same = [](const std::vector<float>& x) {
    const auto n = static_cast<int64_t>(x.size());
    std::vector<bf16> with(x.size()), without(x.size());
    detail::avx512_bf16_math_bf16.scale(x.data(), with.data(), n, 1);
    detail::avx512_math_bf16.scale(x.data(), without.data(), n, 1);
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(without[i].bits, bf16(x[i]).bits) << x[i];
      ASSERT_EQ(with[i].bits, without[i].bits) << x[i];
    }
  };
  // Every pattern of the upper half with lower halves around a tie, NaN and infinities among them.
  for (const uint32_t low : {0x0000u, 0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
    std::vector<float> x(1 << 16);
    for (uint32_t high = 0; high < x.size(); ++high) x[high] = std::bit_cast<float>(high << 16 | low);
    expect_same(x);
  }
#else
  GTEST_SKIP() << "not an x86-64 processor";
#endif
}

template <class T>
void expect_softmax_parts(const VectorMath<T>& math) {
  for (const int64_t n : {0, 1, 5, 16, 69, 511, 512, 513, 1033, 30522}) {
    std::vector<T> x(static_cast<size_t>(n));
    std::vector<float> y(x.size() + 1, 7.0f);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<T>(static_cast<float>(philox({1, 2}, i)[0] >> 8) * 0x1p-20f - 20.0f);
    float top = lowest;
    for (const T v : x) top = std::max(top, static_cast<float>(v));
    ASSERT_EQ(math.largest(x.data(), n), top) << n;
    const double sum = math.exponentials(x.data(), y.data(), n, 0.5f, 0.5f * top);
    double exact = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double e = std::exp(0.5 * (static_cast<double>(static_cast<float>(x[i])) - static_cast<double>(top)));
      exact += e;
      ASSERT_NEAR(static_cast<double>(y[i]), e, 2e-6 * e) << n << ' ' << i;
    }
    ASSERT_EQ(y.back(), 7.0f) << n;
    ASSERT_NEAR(sum, exact, 3e-7 * exact) << n;
    std::vector<T> scaled(x.size() + 1, static_cast<T>(7.0f));
    math.scale(y.data(), scaled.data(), n, 0.3f);
    for (size_t i = 0; i < x.size(); ++i) {
      const T expected = static_cast<T>(y[i] * 0.3f);
      ASSERT_EQ(static_cast<float>(scaled[i]), static_cast<float>(expected)) << n << ' ' << i;
    }
    ASSERT_EQ(static_cast<float>(scaled.back()), 7.0f) << n;
  }
}
TEST_P(VectorMathOf, LargestExponentialsAndScale) {
  expect_softmax_parts(math());
  expect_softmax_parts(math_bf16());
  // The largest stands in every place; NaN and -inf do not count.
  for (int64_t n = 1; n <= 70; ++n)
    for (int64_t at = 0; at < n; ++at) {
      std::vector<float> x(static_cast<size_t>(n), -3.0f);
      x[static_cast<size_t>(at)] = -2.0f;
      ASSERT_EQ(math().largest(x.data(), n), -2.0f) << n << ' ' << at;
      for (float& v : x) v = v == -2.0f ? not_a_number : -3.0f;
      ASSERT_EQ(math().largest(x.data(), n), n == 1 ? lowest : -3.0f) << n << ' ' << at;
      ASSERT_TRUE(std::isnan(math().exponentials(x.data(), x.data(), n, 1, 0))) << n << ' ' << at;
    }
  const std::vector<float> nothing(40, -infinity);
  EXPECT_EQ(math().largest(nothing.data(), 40), lowest);
}

TEST(VectorMath, DoubleUsesTheStandardLibrary) {
  const VectorMath<double>& math = vector_math<double>();
  for (const auto& f : functions<double>)
    for (double x = -8; x < 8; x += 0.37) {
      double y = 0;
      (math.*f.span)(&x, &y, 1);
      EXPECT_NEAR(y, f.exact(x), 1e-15 * std::max(1.0, std::abs(f.exact(x)))) << f.name << ' ' << x;
    }
  for (const auto& f : derivatives<double>)
    for (double x = -8; x < 8; x += 0.37) {
      double y = 0;
      const double dy = 2;  // 1 - tanh^2 cancels, hence the larger error
      (math.*f.span)(&x, &dy, &y, 1);
      EXPECT_NEAR(y, 2 * f.exact(x), 2e-14) << f.name << ' ' << x;
    }
}

TEST(VectorMath, TheWidestInstructionsAreChosenUnlessForced) {
  const char* forced = std::getenv("DUET_CPU_ISA");
  CpuInstructions widest = CpuInstructions::baseline;
  for (const CpuInstructions set : {CpuInstructions::avx2, CpuInstructions::avx512})
    if (cpu_has(set)) widest = set;
  EXPECT_EQ(name_of(cpu_instructions()), forced != nullptr ? forced : name_of(widest));
  EXPECT_EQ(&vector_math<float>(), &vector_math<float>(cpu_instructions()));
  EXPECT_EQ(&vector_math<bf16>(), &vector_math<bf16>(cpu_instructions()));
}

}  // namespace
}  // namespace duet::ops
