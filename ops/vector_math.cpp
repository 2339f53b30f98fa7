#include "duet/ops/vector_math.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

namespace duet::ops {
namespace {

double phi(double x) {
  return 0.5 * (1 + std::erf(x * (std::numbers::sqrt2 / 2)));
}
double gelu_derivative(double x) {
  constexpr double inverse_sqrt_2pi = 0.3989422804014327;
  return phi(x) + x * inverse_sqrt_2pi * std::exp(-0.5 * x * x);
}
constexpr double k = 0.7978845608028654;
double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(k * (x + 0.044715 * x * x * x)));
}
double gelu_tanh_derivative(double x) {
  // Beyond 20 the tanh is 1 to the last bit; without the bound 0 * x^2 would be NaN for huge x.
  x = x > 20 ? 20 : x < -20 ? -20 : x;
  const double t = std::tanh(k * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 0.134145 * x * x);
}

template <double (*f)(double)>
void map(const double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}
template <double (*f)(double)>
void map_backward(const double* x, const double* dy, double* dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * f(x[i]);
}

const VectorMath<double> double_math{
    map<[](double x) { return std::exp(x); }>,
    map<[](double x) { return std::erf(x); }>,
    map<[](double x) { return std::tanh(x); }>,
    map<[](double x) { return x * phi(x); }>,
    map<gelu_tanh>,
    map_backward<gelu_derivative>,
    map_backward<gelu_tanh_derivative>,
    [](const double* x, int64_t n) {
      double top = std::numeric_limits<double>::lowest();
      for (int64_t i = 0; i < n; ++i) top = x[i] > top ? x[i] : top;
      return top;
    },
    [](const double* x, double* y, int64_t n, double scale, double offset) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += y[i] = std::exp(x[i] * scale - offset);
      return sum;
    },
    [](const double* x, double* y, int64_t n, double factor) {
      for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor;
    },
};

}  // namespace

template <class T>
const VectorMath<T>& vector_math([[maybe_unused]] CpuInstructions instructions) {
  if constexpr (std::is_same_v<T, double>) return double_math;
#ifdef DUET_X86_KERNELS
  if constexpr (std::is_same_v<T, float>) {
    if (instructions == CpuInstructions::avx512) return detail::avx512_math;
    if (instructions == CpuInstructions::avx2) return detail::avx2_math;
  } else if constexpr (std::is_same_v<T, bf16>) {
    if (instructions == CpuInstructions::avx512)
      return cpu_has_bfloat16() ? detail::avx512_bf16_math_bf16 : detail::avx512_math_bf16;
    if (instructions == CpuInstructions::avx2) return detail::avx2_math_bf16;
  }
#endif
  if constexpr (std::is_same_v<T, float>)
    return detail::baseline_math;
  else if constexpr (std::is_same_v<T, bf16>)
    return detail::baseline_math_bf16;
}

template <class T>
const VectorMath<T>& vector_math() {
  static const VectorMath<T>& chosen = vector_math<T>(cpu_instructions());
  return chosen;
}

#define DUET_INSTANTIATE(T)                                      \
  template const VectorMath<T>& vector_math<T>(CpuInstructions); \
  template const VectorMath<T>& vector_math<T>();
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
