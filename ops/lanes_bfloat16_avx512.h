// Included by files that are compiled for AVX-512; where DUET_AVX512_BF16 is defined, for AVX512-BF16 too.
#pragma once

#include "duet/core/dtype.h"
#include "duet/ops/lanes_avx512.h"

namespace duet::ops::detail {
namespace {

inline Floats widened(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
// As bf16's constructor does: to nearest, ties to even; NaN stays a quiet NaN.
inline __m256i narrowed_by_integers(Floats v) {
  const __m512i raw = _mm512_castps_si512(v), one = _mm512_set1_epi32(1), upper = _mm512_srli_epi32(raw, 16);
  const __m512i up = _mm512_add_epi32(_mm512_and_si512(upper, one), _mm512_set1_epi32(0x7FFF));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(raw, up), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40)));
}
inline __m256i narrowed(Floats v) {
#ifdef DUET_AVX512_BF16
  // One instruction, but for subnormal numbers, which it takes for zeros.
  constexpr int subnormal = 0x20;
  if (_mm512_fpclass_ps_mask(v, subnormal) == 0) [[likely]]
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
#endif
  return narrowed_by_integers(v);
}

inline Floats load(const bf16* x, Mask mask) {
  return widened(_mm256_maskz_loadu_epi16(mask, x));
}
inline void store(bf16* x, Mask mask, Floats v) {
  _mm256_mask_storeu_epi16(x, mask, narrowed(v));
}
// The first Count lanes.
template <int Count>
[[gnu::always_inline]] inline Floats load_some(const bf16* x) {
  return load(x, first_lanes(Count));
}

}  // namespace
}  // namespace duet::ops::detail
