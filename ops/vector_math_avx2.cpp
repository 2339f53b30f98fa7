#ifdef __AVX2__
#include <cstring>

#include "duet/ops/lanes_avx2.h"

namespace duet::ops::detail {
namespace {

typedef int Ints __attribute__((vector_size(32)));

Floats smaller(Floats a, Floats b) {
  return _mm256_min_ps(a, b);
}
Floats larger(Floats a, Floats b) {
  return _mm256_max_ps(a, b);
}
// In two factors, which covers the overflow to infinity and the denormals.
Floats times_power_of_two(Floats p, Floats, Ints n) {
  const Ints half = n >> 1;
  return p * reinterpret_cast<Floats>((half + 127) << 23) * reinterpret_cast<Floats>((n - half + 127) << 23);
}
float sum_of(Floats v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return two[0] + two[1];
}
float largest_of(Floats v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return two[0] > two[1] ? two[0] : two[1];
}

Floats load_first(const float* x, int64_t n) {
  return _mm256_maskload_ps(x, first_lanes(n).bits());
}
void store_first(float* x, int64_t n, Floats v) {
  _mm256_maskstore_ps(x, first_lanes(n).bits(), v);
}

// As bf16's constructor does: to nearest, ties to even; NaN stays a quiet NaN.
__m128i narrowed(Floats v) {
  const __m256i raw = _mm256_castps_si256(v), one = _mm256_set1_epi32(1), upper = _mm256_srli_epi32(raw, 16);
  const __m256i up = _mm256_add_epi32(_mm256_and_si256(upper, one), _mm256_set1_epi32(0x7FFF));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(raw, up), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i words = _mm256_blendv_epi8(rounded, _mm256_or_si256(upper, _mm256_set1_epi32(0x40)), nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
Floats load(const uint16_t* x) {
  const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
}
void store(uint16_t* x, Floats v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(x), narrowed(v));
}
Floats load_first(const uint16_t* x, int64_t n) {
  uint16_t all[lanes] = {};
  std::memcpy(all, x, static_cast<size_t>(n) * sizeof(uint16_t));
  return load(all);
}
void store_first(uint16_t* x, int64_t n, Floats v) {
  uint16_t all[lanes];
  store(all, v);
  std::memcpy(x, all, static_cast<size_t>(n) * sizeof(uint16_t));
}

}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/vector_math_kernels.h"
// Behind it, since it uses it.
#include "duet/ops/attention_rows_kernels.h"

namespace duet::ops::detail {
const VectorMath<float> avx2_math = all_spans<float>;
const AttentionRows<float> avx2_attention_rows{softmax_rows, softmax_backward_rows};
const VectorMath<bf16> avx2_math_bf16 = all_spans<bf16>;
}  // namespace duet::ops::detail
#endif
