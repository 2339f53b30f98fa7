// Included by files that are compiled for AVX2 with FMA, each of which gets its own copy.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace duet::ops::detail {
namespace {

constexpr int lanes = 8;
using Floats = __m256;

// The first `count` lanes: none when it is not above zero, all from 8 on.
struct Mask {
  int64_t count;
  bool all() const { return count >= lanes; }
  __m256i bits() const {
    const int bounded = all() ? lanes : count <= 0 ? 0 : static_cast<int>(count);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(bounded), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};
inline Mask first_lanes(int64_t count) {
  return {count};
}

inline Floats splat(float x) {
  return _mm256_set1_ps(x);
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return _mm256_fmadd_ps(a, b, c);
}
// sum += a b. g++ 12, left to itself, puts sums into other registers all the time, and runs out of them.
[[gnu::always_inline]] inline void accumulate(Floats& sum, Floats a, Floats b) {
  asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
}
inline Floats load(const float* x) {
  return _mm256_loadu_ps(x);
}
inline Floats load(const float* x, Mask mask) {
  return mask.all() ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, mask.bits());
}
inline void store(float* x, Floats v) {
  _mm256_storeu_ps(x, v);
}
// AMD's processors take dozens of cycles for a masked store.
inline void store(float* x, Mask mask, Floats v) {
  if (mask.all()) [[likely]]
    _mm256_storeu_ps(x, v);
  else
    _mm256_maskstore_ps(x, mask.bits(), v);
}
// The first Count lanes, of 4 or 8.
template <int Count>
[[gnu::always_inline]] inline Floats load_some(const float* x) {
  static_assert(Count == 4 || Count == lanes);
  if constexpr (Count == lanes)
    return _mm256_loadu_ps(x);
  else
    return _mm256_castps128_ps256(_mm_loadu_ps(x));
}
template <int Count>
[[gnu::always_inline]] inline void store_some(float* x, Floats v) {
  static_assert(Count == 4 || Count == lanes);
  if constexpr (Count == lanes)
    _mm256_storeu_ps(x, v);
  else
    _mm_storeu_ps(x, _mm256_castps256_ps128(v));
}
// The first Count lanes of each x, one after the other.
template <int Count>
[[gnu::always_inline]] inline void store_side_by_side(float* to, const Floats (&x)[lanes]) {
#pragma GCC unroll 8
  for (int i = 0; i < lanes; ++i) store_some<Count>(to + i * Count, x[i]);
}

// Lane j of x[i] becomes lane i of x[j].
[[gnu::always_inline]] inline void transpose_lanes(Floats (&x)[8]) {
  Floats t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    x[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    x[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    x[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    x[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  // Now halves of 128 bits: of rows 4 q + j, half p holds column 4 p + j.
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) x[i] = t[i];
}

}  // namespace
}  // namespace duet::ops::detail
