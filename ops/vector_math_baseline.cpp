#include <cstdint>
#include <cstring>

namespace duet::ops::detail {
namespace {

// Four floats are a register of SSE2 and of NEON; the compiler finds the instructions.
constexpr int lanes = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef int Ints __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));
typedef uint16_t Halves __attribute__((vector_size(8)));

Floats splat(float x) {
  return x - Floats{};
}
Floats fma(Floats a, Floats b, Floats c) {
  return a * b + c;
}
Floats smaller(Floats a, Floats b) {
  return a < b ? a : b;
}
Floats larger(Floats a, Floats b) {
  return a > b ? a : b;
}
// In two factors, which covers the overflow to infinity and the denormals.
Floats times_power_of_two(Floats p, Floats, Ints n) {
  const Ints half = n >> 1;
  return p * reinterpret_cast<Floats>((half + 127) << 23) * reinterpret_cast<Floats>((n - half + 127) << 23);
}
float sum_of(Floats v) {
  return (v[0] + v[2]) + (v[1] + v[3]);
}
float largest_of(Floats v) {
  const float even = v[0] > v[2] ? v[0] : v[2], odd = v[1] > v[3] ? v[1] : v[3];
  return even > odd ? even : odd;
}

Floats load(const float* x) {
  Floats v;
  std::memcpy(&v, x, sizeof(v));
  return v;
}
void store(float* x, Floats v) {
  std::memcpy(x, &v, sizeof(v));
}
Floats load(const uint16_t* x) {
  Halves v;
  std::memcpy(&v, x, sizeof(v));
  return reinterpret_cast<Floats>(__builtin_convertvector(v, Words) << 16);
}
// As bf16's constructor does: to nearest, ties to even; NaN stays a quiet NaN.
void store(uint16_t* x, Floats v) {
  const Words raw = reinterpret_cast<Words>(v), upper = raw >> 16;
  const Words words = v != v ? upper | 0x40 : (raw + 0x7FFF + (upper & 1)) >> 16;
  const Halves narrow = __builtin_convertvector(words, Halves);
  std::memcpy(x, &narrow, sizeof(narrow));
}
template <class T>
Floats load_first(const T* x, int64_t n) {
  T all[lanes] = {};
  std::memcpy(all, x, static_cast<size_t>(n) * sizeof(T));
  return load(all);
}
template <class T>
void store_first(T* x, int64_t n, Floats v) {
  T all[lanes];
  store(all, v);
  std::memcpy(x, all, static_cast<size_t>(n) * sizeof(T));
}

}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/vector_math_kernels.h"
// Behind it, since it uses it.
#include "duet/ops/attention_rows_kernels.h"

namespace duet::ops::detail {
const VectorMath<float> baseline_math = all_spans<float>;
const AttentionRows<float> baseline_attention_rows{softmax_rows, softmax_backward_rows};
const VectorMath<bf16> baseline_math_bf16 = all_spans<bf16>;
}  // namespace duet::ops::detail
