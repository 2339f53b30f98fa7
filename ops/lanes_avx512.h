// Included by files that are compiled for AVX-512, each of which gets its own copy.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace duet::ops::detail {
namespace {

constexpr int lanes = 16;
using Floats = __m512;
using Mask = __mmask16;

// The first `count` lanes: none when it is not above zero, all from 16 on.
inline Mask first_lanes(int64_t count) {
  return count >= lanes ? Mask(0xFFFF) : count <= 0 ? Mask(0) : Mask((1u << count) - 1);
}

inline Floats splat(float x) {
  return _mm512_set1_ps(x);
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return _mm512_fmadd_ps(a, b, c);
}
// sum += a b.
[[gnu::always_inline]] inline void accumulate(Floats& sum, Floats a, Floats b) {
  sum = fma(a, b, sum);
}
// As Float of register_tile.h, but of fewer instructions and more reads.
template <int Rows>
struct DirectFloat {
  static constexpr int per_word = 1, direct_rows = Rows;
  static void multiply_add(Floats& sum, Floats a, Floats b) { accumulate(sum, a, b); }
  // g++ would read x once, for all vectors that it is multiplied with.
  [[gnu::always_inline]] static void multiply_add_direct(Floats& sum, const float& x, Floats b) {
    Floats result = sum;
    asm("vfmadd231ps %1%{1to16%}, %2, %0" : "+v"(result) : "m"(x), "v"(b));
    sum = result;
  }
};
inline Floats load(const float* x) {
  return _mm512_loadu_ps(x);
}
inline Floats load(const float* x, Mask mask) {
  return _mm512_maskz_loadu_ps(mask, x);
}
inline void store(float* x, Floats v) {
  _mm512_storeu_ps(x, v);
}
inline void store(float* x, Mask mask, Floats v) {
  _mm512_mask_storeu_ps(x, mask, v);
}
// The first Count lanes.
template <int Count>
[[gnu::always_inline]] inline Floats load_some(const float* x) {
  return _mm512_maskz_loadu_ps(Mask((1u << Count) - 1), x);
}
template <int Count>
[[gnu::always_inline]] inline void store_some(float* x, Floats v) {
  _mm512_mask_storeu_ps(x, Mask((1u << Count) - 1), v);
}

struct Places {
  alignas(64) int32_t of[lanes];
};
// Of lanes from `from` on of vectors that have `count` each.
constexpr Places places_from(int from, int count) {
  Places result{};
  for (int i = 0; i < lanes; ++i) result.of[i] = from + i < count ? from + i : lanes + from + i - count;
  return result;
}
// The first Count lanes of each x, one after the other: whole vectors, since stores of a part mostly cross cache lines.
template <int Count, int j = 0>
[[gnu::always_inline]] inline void store_side_by_side(float* to, const Floats (&x)[lanes]) {
  static_assert(Count % 2 == 0 && Count > 10 && Count < lanes);  // of each vector at most two x
  if constexpr (j < Count) {
    constexpr int row = lanes * j / Count;
    static constexpr Places places = places_from(lanes * j % Count, Count);
    store(to + j * lanes, _mm512_permutex2var_ps(x[row], _mm512_load_si512(places.of), x[row + 1]));
    store_side_by_side<Count, j + 1>(to, x);
  }
}

// Lane j of x[i] becomes lane i of x[j].
[[gnu::always_inline]] inline void transpose_lanes(__m512i (&x)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Now quarters of 128 bits: of rows 4 q + j, quarter p holds column 4 p + j.
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xDD);
    t[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xDD);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
    x[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    x[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xDD);
  }
}
[[gnu::always_inline]] inline void transpose_lanes(Floats (&x)[16]) {
  __m512i bits[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) bits[i] = _mm512_castps_si512(x[i]);
  transpose_lanes(bits);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = _mm512_castsi512_ps(bits[i]);
}

}  // namespace
}  // namespace duet::ops::detail
