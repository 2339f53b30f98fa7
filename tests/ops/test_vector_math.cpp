#include "duet/ops/vector_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace duet::ops {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// Distance between `got` and the exact value in units of the last place of float there.
double ulps(float got, double exact) {
  if (std::abs(exact) > static_cast<double>(std::numeric_limits<float>::max()))
    return static_cast<double>(got) == std::copysign(static_cast<double>(infinity), exact) ? 0 : 1e9;
  const double unit = exact == 0 ? 0x1p-149 : std::max(std::ldexp(1.0, std::ilogb(exact) - 23), 0x1p-149);
  return std::abs(static_cast<double>(got) - exact) / unit;
}

struct Worst {
  double error = 0;
  float at = 0;
};

// Every `step`-th bit pattern of float: all magnitudes from denormal to huge, both signs, NaN left out. Blocks, so that
// the compiler vectorises the function as it does in the kernels.
template <class F, class Exact, class Error>
Worst worst_over_floats(uint32_t step, F f, Exact exact, Error error) {
  Worst worst;
  std::vector<float> x(4096), y(4096);
  uint64_t bits = 0;
  while (bits <= 0xFFFFFFFFu) {
    size_t n = 0;
    for (; n < x.size() && bits <= 0xFFFFFFFFu; bits += step) {
      const float v = std::bit_cast<float>(static_cast<uint32_t>(bits));
      if (v == v) x[n++] = v;
    }
    for (size_t i = 0; i < n; ++i) y[i] = f(x[i]);
    for (size_t i = 0; i < n; ++i) {
      const double e = error(y[i], exact(static_cast<double>(x[i])));
      if (!(e <= worst.error)) worst = {e, x[i]};
    }
  }
  return worst;
}

// Dense over [low, high], where the functions do their work.
template <class F, class Exact, class Error>
Worst worst_between(double low, double high, int count, F f, Exact exact, Error error) {
  Worst worst;
  std::vector<float> x(static_cast<size_t>(count)), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(low + (high - low) * static_cast<double>(i) / count);
  for (size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
  for (size_t i = 0; i < x.size(); ++i) {
    const double e = error(y[i], exact(static_cast<double>(x[i])));
    if (!(e <= worst.error)) worst = {e, x[i]};
  }
  return worst;
}

constexpr uint32_t step = 4001;
constexpr int dense = 500000;

template <class F, class Exact>
void expect_ulps(const char* name, double limit, double low, double high, F f, Exact exact) {
  for (const Worst& worst :
       {worst_over_floats(step, f, exact, ulps), worst_between(low, high, dense, f, exact, ulps)}) {
    EXPECT_LE(worst.error, limit) << name << " at " << worst.at << ": " << f(worst.at) << ", exact "
                                  << exact(static_cast<double>(worst.at));
  }
}

TEST(VectorMath, ExpIsAccurate) {
  expect_ulps(
      "exp", 1.1, -105, 90, [](float x) { return vexp(x); }, [](double x) { return std::exp(x); });
}

TEST(VectorMath, ErfIsAccurate) {
  expect_ulps(
      "erf", 5.7, -4.5, 4.5, [](float x) { return verf(x); }, [](double x) { return std::erf(x); });
}

TEST(VectorMath, TanhIsAccurate) {
  expect_ulps(
      "tanh", 1.3, -10, 10, [](float x) { return vtanh(x); }, [](double x) { return std::tanh(x); });
}

TEST(VectorMath, SpecialValues) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), tiny = std::numeric_limits<float>::denorm_min();
  // Twice each: alone, and in a loop that the compiler vectorises.
  std::vector<float> x(64, nan), y(64);
  for (size_t i = 0; i < x.size(); ++i) y[i] = vexp(x[i]) + verf(x[i]) + vtanh(x[i]);
  for (const float v : y) EXPECT_TRUE(std::isnan(v));
  for (float (*f)(float) :
       {+[](float v) { return vexp(v); }, +[](float v) { return verf(v); }, +[](float v) { return vtanh(v); },
        +[](float v) { return gelu_exact(v); }, +[](float v) { return gelu_tanh(v); },
        +[](float v) { return gelu_exact_derivative(v); }, +[](float v) { return gelu_tanh_derivative(v); }})
    EXPECT_TRUE(std::isnan(f(nan)));
  EXPECT_EQ(vexp(infinity), infinity);
  EXPECT_EQ(vexp(-infinity), 0);
  EXPECT_EQ(vexp(0.0f), 1);
  EXPECT_EQ(vexp(88.8f), infinity);
  EXPECT_GT(vexp(-103.0f), 0);
  for (float (*f)(float) : {+[](float v) { return verf(v); }, +[](float v) { return vtanh(v); }}) {
    EXPECT_EQ(f(infinity), 1);
    EXPECT_EQ(f(-infinity), -1);
    EXPECT_EQ(f(3e38f), 1);
    EXPECT_EQ(f(0.0f), 0);
  }
  EXPECT_EQ(vtanh(tiny), tiny);
  // The derivative of erf at 0 is 1.128, so the smallest number maps to itself.
  EXPECT_EQ(verf(tiny), tiny);
}

TEST(VectorMath, ErfAndTanhNeverLeaveOne) {
  for (float x = 0; x < 12; x += 1e-4f) {
    ASSERT_LE(verf(x), 1.0f) << x;
    ASSERT_LE(vtanh(x), 1.0f) << x;
  }
}

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

// In the left tail 1 + erf cancels, so the error is bounded relative to |x|, or 1 for the derivative, not to the
// result.
TEST(VectorMath, GeluErrorIsAFewRoundings) {
  const auto of_x = [](auto f, auto exact) {
    return [f, exact](double low, double high) {
      Worst worst;
      for (int i = 0; i < dense; ++i) {
        const auto x = static_cast<float>(low + (high - low) * i / dense);
        const double e = std::abs(f(x) - exact(static_cast<double>(x))) / std::max(std::abs(x), 1e-30f);
        if (!(e <= worst.error)) worst = {e, x};
      }
      return worst;
    };
  };
  const auto absolute = [](float got, double exact) { return std::abs(got - exact); };
  const Worst exact = of_x([](float x) { return gelu_exact(x); }, gelu_reference)(-12, 12);
  const Worst approximate = of_x([](float x) { return gelu_tanh(x); }, gelu_tanh_reference)(-12, 12);
  EXPECT_LE(exact.error, 2.2e-7) << exact.at;
  EXPECT_LE(approximate.error, 2.2e-7) << approximate.at;
  const Worst d = worst_between(
      -12, 12, dense, [](float x) { return gelu_exact_derivative(x); }, gelu_derivative_reference, absolute);
  const Worst dt = worst_between(
      -12, 12, dense, [](float x) { return gelu_tanh_derivative(x); }, gelu_tanh_derivative_reference, absolute);
  EXPECT_LE(d.error, 6e-7) << d.at;
  EXPECT_LE(dt.error, 6e-7) << dt.at;
}

TEST(VectorMath, GeluStaysFiniteForHugeNumbers) {
  for (const float x : {1e10f, 1e20f, 3e38f}) {
    EXPECT_EQ(gelu_exact(x), x);
    EXPECT_EQ(gelu_tanh(x), x);
    EXPECT_EQ(gelu_exact(-x), 0);
    EXPECT_EQ(gelu_tanh(-x), 0);
    for (float (*f)(float) :
         {+[](float v) { return gelu_exact_derivative(v); }, +[](float v) { return gelu_tanh_derivative(v); }}) {
      EXPECT_EQ(f(x), 1);
      EXPECT_EQ(f(-x), 0);
    }
  }
}

}  // namespace
}  // namespace duet::ops
