// Included by the files that are compiled one per set of instructions, after each has said what its vectors are: Floats
// and Ints of `lanes` elements (vectors of the compiler, which have its operators); splat(x), fma(a, b, c) = a b + c;
// smaller(a, b) and larger(a, b), which are b where one is NaN; times_power_of_two(p, n, whole); sum_of and largest_of
// the lanes; load, load_first, store and store_first for float and for the bits of bf16. All in an anonymous namespace,
// and no function of others that is inline or a template: the linker might choose the copy from here for all, also
// where there are no such instructions.
#include <cstdint>

#include "duet/ops/vector_math.h"

namespace duet::ops::detail {
namespace {

Floats bits_as_floats(Ints x) {
  return reinterpret_cast<Floats>(x);
}
Ints bits(Floats x) {
  return reinterpret_cast<Ints>(x);
}
constexpr int sign_bit = static_cast<int>(0x80000000u);
Floats magnitude(Floats x) {
  return bits_as_floats(bits(x) & ~sign_bit);
}
Floats with_sign_of(Floats sign, float positive) {
  return bits_as_floats((bits(sign) & sign_bit) | bits(splat(positive)));
}

// In powers of t, the highest first.
template <int N>
Floats polynomial(Floats t, const float (&coefficients)[N]) {
  Floats p = splat(coefficients[0]);
  for (int i = 1; i < N; ++i) p = fma(p, t, splat(coefficients[i]));
  return p;
}

// The coefficients of all polynomials are minimax fits made for this file.

// exp(x) = 2^n exp(r), r in [-ln2/2, ln2/2].
Floats exp_of(Floats x) {
  constexpr float coefficients[] = {1.394646265e-03f, 8.369162618e-03f, 4.166626291e-02f, 1.666651590e-01f,
                                    5.000000081e-01f};
  // In this order of operands NaN passes through.
  const Floats c = larger(splat(-104.0f), smaller(splat(89.0f), x));
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits; unlike a cast it is defined for NaN.
  const Floats shift = splat(12582912.0f), shifted = fma(c, splat(1.44269504f), shift), n = shifted - shift;
  // ln2 in two parts, the first with trailing zero bits, so that n * ln2 loses nothing.
  const Floats r = fma(n, splat(2.12194440e-4f), fma(n, splat(-0.693359375f), c));
  const Floats p = fma(polynomial(r, coefficients), r * r, r) + 1.0f;
  return times_power_of_two(p, n, bits(shifted) - bits(shift));
}

// Near zero a polynomial, because 1 - 2 / (exp(2x) + 1) cancels there.
Floats tanh_of(Floats x) {
  constexpr float coefficients[] = {2.044592061e-03f,  -8.065118348e-03f, 2.165262763e-02f,
                                    -5.393723235e-02f, 1.333311922e-01f,  -3.333332775e-01f};
  const Floats u = x * x, a = magnitude(x), small = fma(polynomial(u, coefficients) * u, a, a);
  const Floats large = 1.0f - 2.0f / (exp_of(a + a) + 1.0f);
  return bits_as_floats(bits(a < 0.625f ? small : large) | (bits(x) & sign_bit));
}

// With Phi the normal distribution, u = x^2 and u_scale = 1 for Phi(x) - 1/2 = x P(u), 2 for erf(x / sqrt 2) / 2.
constexpr float phi_end = 5.5f;
Floats phi_polynomial(Floats u, float u_scale) {
  constexpr float coefficients[] = {-2.570946526e-04f, 6.475548143e-04f, -4.614793288e-04f, 6.696423516e-04f,
                                    -2.505752025e-03f, 4.683701787e-03f, -6.763948128e-03f, 1.019059680e-02f,
                                    -1.501784381e-02f, 2.037589438e-02f, -2.604513615e-02f, 3.206864744e-02f,
                                    -3.879300505e-02f, 4.773771018e-02f, -6.417233497e-02f, 1.285519302e-01f};
  return polynomial(fma(u, splat(u_scale * 2 / (phi_end * phi_end)), splat(-1.0f)), coefficients);
}

Floats erf_of(Floats x) {
  const Floats u = x * x, y = x * 2.8284271247461903f * phi_polynomial(u, 2);
  return u > phi_end * phi_end / 2 ? with_sign_of(x, 1.0f) : y;
}

Floats gelu_of(Floats x) {
  const Floats u = x * x, y = x * phi_polynomial(u, 1);
  return fma(x, u > phi_end * phi_end ? with_sign_of(x, 0.5f) : y, x * 0.5f);
}

// Phi(x) + x phi(x), whose distance from 1/2 is odd as well.
Floats gelu_derivative(Floats x) {
  constexpr float end = 6;
  constexpr float coefficients[] = {
      -5.874384660e-03f, 1.386366691e-02f, -2.446800470e-03f, -5.493204575e-03f, -2.625723183e-02f, 5.221867934e-02f,
      -4.217195138e-02f, 4.274158180e-02f, -6.287976354e-02f, 7.072035968e-02f,  -6.511001289e-02f, 5.798354745e-02f,
      -5.081947520e-02f, 4.462095723e-02f, -4.237314686e-02f, 4.605540633e-02f,  -5.934266746e-02f, 1.178977713e-01f};
  const Floats u = x * x, y = x * polynomial(fma(u, splat(2 / (end * end)), splat(-1.0f)), coefficients);
  return 0.5f + (u > end * end ? with_sign_of(x, 0.5f) : y);
}

// -2 z, where the tanh's argument is z; (1 + tanh(z)) / 2 = 1 / (1 + exp(-2 z)) does not cancel.
constexpr float minus_2k = -1.5957691216057308f;
Floats gelu_tanh_exponent(Floats x) {
  return x * fma(x * x, splat(0.044715f * minus_2k), splat(minus_2k));
}
Floats gelu_tanh_of(Floats x) {
  return x / (1.0f + exp_of(gelu_tanh_exponent(x)));
}
Floats gelu_tanh_derivative(Floats x) {
  // Beyond 10 nothing changes in the last bit of 1; without the bound there would be 0 times infinity.
  x = x > 10.0f ? splat(10.0f) : x;
  x = x < -10.0f ? splat(-10.0f) : x;
  const Floats e = exp_of(gelu_tanh_exponent(x)), s = 1.0f / (1.0f + e);
  // s (1 - s) = s^2 e.
  const Floats slope = x * fma(x * x, splat(-0.134145f * minus_2k), splat(-minus_2k));
  return fma(s * s * e, slope, s);
}

Floats load(const bf16* x) {
  return load(reinterpret_cast<const uint16_t*>(x));
}
Floats load_first(const bf16* x, int64_t n) {
  return load_first(reinterpret_cast<const uint16_t*>(x), n);
}
void store(bf16* x, Floats v) {
  store(reinterpret_cast<uint16_t*>(x), v);
}
void store_first(bf16* x, int64_t n, Floats v) {
  store_first(reinterpret_cast<uint16_t*>(x), n, v);
}

// y[i] = f(x[i]...).
template <class F, class To, class... From>
void map(int64_t n, To* y, F f, const From*... x) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(y + i, f(load(x + i)...));
  if (i < n) store_first(y + i, n - i, f(load_first(x + i, n - i)...));
}

#define DUET_MAP(name, function)                        \
  template <class T>                                    \
  void name(const T* x, T* y, int64_t n) {              \
    map(                                                \
        n, y, [](Floats v) { return function(v); }, x); \
  }
#define DUET_MAP_BACKWARD(name, derivative)                                  \
  template <class T>                                                         \
  void name(const T* x, const T* dy, T* dx, int64_t n) {                     \
    map(                                                                     \
        n, dx, [](Floats v, Floats g) { return g * derivative(v); }, x, dy); \
  }
DUET_MAP(exp_span, exp_of)
DUET_MAP(erf_span, erf_of)
DUET_MAP(tanh_span, tanh_of)
DUET_MAP(gelu_span, gelu_of)
DUET_MAP(gelu_tanh_span, gelu_tanh_of)
DUET_MAP_BACKWARD(gelu_backward_span, gelu_derivative)
DUET_MAP_BACKWARD(gelu_tanh_backward_span, gelu_tanh_derivative)

Ints counted_lanes(int64_t n) {
  Ints index;
  for (int i = 0; i < lanes; ++i) index[i] = i;
  return index < static_cast<int>(n);
}

template <class T>
float largest_span(const T* x, int64_t n) {
  constexpr int side_by_side = 4;
  const Floats lowest = splat(-3.402823466e38f);
  Floats top[side_by_side] = {lowest, lowest, lowest, lowest};
  int64_t i = 0;
  const auto take = [](Floats& so_far, Floats v) { so_far = larger(v, so_far); };
  for (; i + side_by_side * lanes <= n; i += side_by_side * lanes)
    for (int k = 0; k < side_by_side; ++k) take(top[k], load(x + i + k * lanes));
  for (; i + lanes <= n; i += lanes) take(top[0], load(x + i));
  if (i < n) take(top[1], counted_lanes(n - i) ? load_first(x + i, n - i) : lowest);
  for (int k = 1; k < side_by_side; ++k) take(top[0], top[k]);
  return largest_of(top[0]);
}

// Sums of few elements are added up in float, then in double: of a long row in float, one after the other, they would
// be off by more than the exponentials are.
template <class T>
double exponentials_span(const T* x, float* y, int64_t n, float scale, float offset) {
  constexpr int64_t stretch = 512;
  const auto f = [=](Floats v) { return exp_of(fma(v, splat(scale), splat(-offset))); };
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += stretch) {
    const int64_t end = n - begin < stretch ? n : begin + stretch;
    Floats sum{};
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) {
      const Floats e = f(load(x + i));
      store(y + i, e);
      sum += e;
    }
    if (i < end) {
      const Floats e = counted_lanes(end - i) ? f(load_first(x + i, end - i)) : Floats{};
      store_first(y + i, end - i, e);
      sum += e;
    }
    total += static_cast<double>(sum_of(sum));
  }
  return total;
}

template <class T>
void scale_span(const float* x, T* y, int64_t n, float factor) {
  map(
      n, y, [=](Floats v) { return v * factor; }, x);
}

template <class T>
constexpr VectorMath<T> all_spans{exp_span<T>,
                                  erf_span<T>,
                                  tanh_span<T>,
                                  gelu_span<T>,
                                  gelu_tanh_span<T>,
                                  gelu_backward_span<T>,
                                  gelu_tanh_backward_span<T>,
                                  largest_span<T>,
                                  exponentials_span<T>,
                                  scale_span<T>};

}  // namespace
}  // namespace duet::ops::detail
