#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

// Branch-free exp, erf and tanh that the compiler can vectorise: std:: versions are calls and leave the vector units
// idle. Measured worst errors of the float versions (tests/ops/test_vector_math.cpp): exp 1.1 ulp, tanh 1.3 ulp,
// erf 5.7 ulp near |x| = 3.6 (that is 3.4e-7); GELU 2.2e-7 |x|, its derivatives 6e-7. double uses std::. The polynomial
// and rational coefficients are minimax fits made for this file. NaN and infinities behave as in std::.
namespace duet::ops {

inline double vexp(double x) {
  return std::exp(x);
}
inline double verf(double x) {
  return std::erf(x);
}
inline double vtanh(double x) {
  return std::tanh(x);
}

// exp(x) = 2^n exp(r), r in [-ln2/2, ln2/2].
inline float vexp(float x) {
  // Written so that NaN passes through both selections.
  float c = x > 89.0f ? 89.0f : x;
  c = c < -104.0f ? -104.0f : c;
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits; unlike a cast it is defined for NaN.
  constexpr float shift = 12582912.0f;
  const float shifted = c * 1.44269504f + shift, n = shifted - shift;
  // ln2 in two parts, the first with trailing zero bits, so that n * ln2 loses nothing.
  const float r = (c - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.394646265e-03f;
  p = p * r + 8.369162618e-03f;
  p = p * r + 4.166626291e-02f;
  p = p * r + 1.666651590e-01f;
  p = p * r + 5.000000081e-01f;
  p = p * r * r + r + 1.0f;
  // 2^n in two factors covers the overflow to infinity and the denormals.
  const int32_t k = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(shift), half = k >> 1;
  return p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((k - half + 127) << 23);
}

// erf(x) = x P(x^2) / Q(x^2) on |x| < 3.94, beyond which float rounds to 1.
inline float verf(float x) {
  float c = x > 3.94f ? 3.94f : x;
  c = c < -3.94f ? -3.94f : c;
  const float u = c * c;
  float p = -1.291433108e-08f;
  p = p * u + 4.630574609e-06f;
  p = p * u + 3.775645414e-04f;
  p = p * u + 3.841890124e-03f;
  p = p * u + 5.426510314e-02f;
  p = p * u + 1.851589598e-01f;
  p = p * u + 1.128379169e+00f;
  float q = 6.259973936e-05f;
  q = q * u + 1.303264204e-03f;
  q = q * u + 1.543944010e-02f;
  q = q * u + 1.138994582e-01f;
  q = q * u + 4.974262640e-01f;
  q = q * u + 1.0f;
  const float y = c * p / q;
  return y > 1.0f ? 1.0f : (y < -1.0f ? -1.0f : y);
}

// Near zero a polynomial, because 1 - 2 / (exp(2x) + 1) cancels there.
inline float vtanh(float x) {
  const float u = x * x;
  float p = 2.044592061e-03f;
  p = p * u - 8.065118348e-03f;
  p = p * u + 2.165262763e-02f;
  p = p * u - 5.393723235e-02f;
  p = p * u + 1.333311922e-01f;
  p = p * u - 3.333332775e-01f;
  p = p * u * x + x;
  const float a = x < 0 ? -x : x;
  const float large = 1.0f - 2.0f / (vexp(2.0f * a) + 1.0f);
  return a < 0.625f ? p : (x < 0 ? -large : large);
}

// GELU and its derivative, with Phi the standard normal distribution: gelu(x) = x Phi(x). Hendrycks & Gimpel 2016.
template <class T>
T gelu_exact(T x) {
  return T(0.5) * x * (T(1) + verf(x * T(std::numbers::sqrt2 / 2)));
}
template <class T>
T gelu_exact_derivative(T x) {
  constexpr T inverse_sqrt_2pi = T(0.3989422804014327);
  return T(0.5) * (T(1) + verf(x * T(std::numbers::sqrt2 / 2))) + x * inverse_sqrt_2pi * vexp(T(-0.5) * x * x);
}
// The tanh approximation ("gelu_new"): 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
template <class T>
T gelu_tanh(T x) {
  constexpr T k = T(0.7978845608028654);
  return T(0.5) * x * (T(1) + vtanh(k * (x + T(0.044715) * x * x * x)));
}
template <class T>
T gelu_tanh_derivative(T x) {
  constexpr T k = T(0.7978845608028654);
  // Beyond 10 the tanh is 1 to the last bit; without the bound 0 * x^2 would be NaN for huge x.
  x = x > T(10) ? T(10) : x;
  x = x < T(-10) ? T(-10) : x;
  const T t = vtanh(k * (x + T(0.044715) * x * x * x));
  return T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * k * (T(1) + T(0.134145) * x * x);
}

}  // namespace duet::ops
