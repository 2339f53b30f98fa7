#pragma once

#include <cstdint>

#include "duet/core/cpu.h"
#include "duet/core/dtype.h"

// exp, erf, tanh, GELU and what softmax is made of, over spans in memory: std:: versions are calls and leave the vector
// units idle. There is one copy for each CpuInstructions, chosen when the program runs, and of AVX-512 a
// second one for bf16 that rounds with AVX512-BF16; bf16 computes in float, double uses std::.
//
// Measured worst errors in float, in units of the last place (ulp), of every copy (tests/ops/test_vector_math.cpp):
//   exp 1.1, tanh 1.3, erf 4.1 of the result;
//   gelu 2 of x and gelu_tanh 1.5 of x, which bounds the left tail, where the factor beside x goes to zero; gelu_tanh
//   also 2.3 of the result where x > -1;
//   the derivatives of gelu 2.6 and of gelu_tanh 1.7 of 1.
// NaN and infinities behave as in std::, the derivatives have their limits at infinity. An element's bits depend on its
// value alone, not on its place in a span; those of a sum depend on the span's length too. The copies differ in bits:
// only AVX2 and AVX-512 fuse multiply and add.
namespace duet::ops {

// Outputs may be inputs; otherwise they must not overlap. Any n, any alignment.
template <class T>
struct VectorMath {
  using W = Wide<T>;
  void (*exp)(const T* x, T* y, int64_t n);
  void (*erf)(const T* x, T* y, int64_t n);
  void (*tanh)(const T* x, T* y, int64_t n);
  // x Phi(x) with Phi the standard normal distribution (Hendrycks & Gimpel 2016), and the approximation
  // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
  void (*gelu)(const T* x, T* y, int64_t n);
  void (*gelu_tanh)(const T* x, T* y, int64_t n);
  // dx = dy f'(x).
  void (*gelu_backward)(const T* x, const T* dy, T* dx, int64_t n);
  void (*gelu_tanh_backward)(const T* x, const T* dy, T* dx, int64_t n);
  // The largest element, NaN left out; the lowest finite number when there is none above.
  W (*largest)(const T* x, int64_t n);
  // y = exp(scale x - offset); returns their sum.
  double (*exponentials)(const T* x, W* y, int64_t n, W scale, W offset);
  // y = factor x.
  void (*scale)(const W* x, T* y, int64_t n, W factor);
};

// The copy for cpu_instructions(). T: float, double, bf16.
template <class T>
const VectorMath<T>& vector_math();
// The copy for those instructions, which the processor must have.
template <class T>
const VectorMath<T>& vector_math(CpuInstructions instructions);

namespace detail {
extern const VectorMath<float> baseline_math, avx2_math, avx512_math;
// The last one rounds with AVX512-BF16, to the same bits as the one before it.
extern const VectorMath<bf16> baseline_math_bf16, avx2_math_bf16, avx512_math_bf16, avx512_bf16_math_bf16;
}  // namespace detail

}  // namespace duet::ops
