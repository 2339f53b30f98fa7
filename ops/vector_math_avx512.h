// Included by the files that are compiled for AVX-512; where DUET_AVX512_BF16 is defined, for AVX512-BF16 too.
#pragma once

#include "duet/ops/lanes_bfloat16_avx512.h"

namespace duet::ops::detail {
namespace {

typedef int Ints __attribute__((vector_size(64)));

Floats smaller(Floats a, Floats b) {
  return _mm512_min_ps(a, b);
}
Floats larger(Floats a, Floats b) {
  return _mm512_max_ps(a, b);
}
Floats times_power_of_two(Floats p, Floats n, Ints) {
  return _mm512_scalef_ps(p, n);
}
float sum_of(Floats v) {
  return _mm512_reduce_add_ps(v);
}
float largest_of(Floats v) {
  return _mm512_reduce_max_ps(v);
}

Floats load_first(const float* x, int64_t n) {
  return load(x, first_lanes(n));
}
void store_first(float* x, int64_t n, Floats v) {
  store(x, first_lanes(n), v);
}

Floats load(const uint16_t* x) {
  return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
Floats load_first(const uint16_t* x, int64_t n) {
  return widened(_mm256_maskz_loadu_epi16(first_lanes(n), x));
}
void store(uint16_t* x, Floats v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), narrowed(v));
}
void store_first(uint16_t* x, int64_t n, Floats v) {
  _mm256_mask_storeu_epi16(x, first_lanes(n), narrowed(v));
}

}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/vector_math_kernels.h"
