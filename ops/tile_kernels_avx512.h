// Included by the files that are compiled for AVX-512, one per element type. It must not instantiate templates of
// others: the linker might choose this copy for all, also where there is no AVX-512.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "duet/ops/lanes_avx512.h"
#include "duet/ops/tile_product.h"

namespace duet::ops::detail {
namespace {

// A product works on words of 32 bits: one float, or two neighbours in k of bfloat16.
constexpr int vector_words = 16, panel = 32, most_rows = 12;

struct Float {
  static constexpr int per_word = 1;
  static __m512 multiply_add(__m512i a, __m512i b, __m512 c) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), c);
  }
};
#ifdef __AVX512BF16__
struct Bfloat16 {
  static constexpr int per_word = 2;
  static __m512 multiply_add(__m512i a, __m512i b, __m512 c) {
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};
#endif

// M rows by Vectors * 16 columns of c in registers. Word l of row i of a is at i * RowStep + l * WordStep.
template <class Lane, int M, int Vectors, int64_t RowStep, int64_t WordStep>
void micro_product(int64_t words, const int32_t* a, const int32_t* b, bool accumulate, float* c, int64_t c_stride,
                   __mmask16 last) {
  __m512 sum[M][Vectors];
#pragma GCC unroll 12
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[i][v] = _mm512_setzero_ps();
  for (int64_t l = 0; l < words; ++l) {
    __m512i right[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) right[v] = _mm512_load_si512(b + l * panel + v * vector_words);
#pragma GCC unroll 12
    for (int i = 0; i < M; ++i) {
      const __m512i left = _mm512_set1_epi32(a[i * RowStep + l * WordStep]);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) sum[i][v] = Lane::multiply_add(left, right[v], sum[i][v]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
      const __mmask16 mask = v == Vectors - 1 ? last : __mmask16(0xFFFF);
      float* const to = c + i * c_stride + v * vector_words;
      const __m512 before = accumulate ? _mm512_maskz_loadu_ps(mask, to) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(before, sum[i][v]));
    }
}

template <class Lane, int Vectors, int64_t RowStep, int64_t WordStep>
void rows_product(int64_t rows, int64_t words, const int32_t* a, const int32_t* b, bool accumulate, float* c,
                  int64_t c_stride, __mmask16 last) {
  switch (rows) {
#define DUET_ROWS(M) \
  case M:            \
    return micro_product<Lane, M, Vectors, RowStep, WordStep>(words, a, b, accumulate, c, c_stride, last);
    DUET_ROWS(1)
    DUET_ROWS(2)
    DUET_ROWS(3)
    DUET_ROWS(4)
    DUET_ROWS(5)
    DUET_ROWS(6)
    DUET_ROWS(7)
    DUET_ROWS(8)
    DUET_ROWS(9)
    DUET_ROWS(10)
    DUET_ROWS(11)
    DUET_ROWS(12)
#undef DUET_ROWS
  }
}

template <class Lane, int64_t RowStep, int64_t WordStep>
void panels_product(int64_t m, int64_t n, int64_t words, const int32_t* a, const int32_t* b, bool accumulate, float* c,
                    int64_t c_stride) {
  // The last two groups of rows share what is left: three rows alone would keep the units half busy.
  for (int64_t i = 0; i < m;) {
    const int64_t left = m - i, rows = left <= most_rows ? left : left < 2 * most_rows ? (left + 1) / 2 : most_rows;
    for (int64_t j = 0; j < n; j += panel) {
      const int64_t columns = n - j < panel ? n - j : panel;
      const int32_t* const right = b + j * words;
      float* const to = c + i * c_stride + j;
      if (columns > vector_words)
        rows_product<Lane, 2, RowStep, WordStep>(rows, words, a + i * RowStep, right, accumulate, to, c_stride,
                                                 first_lanes(columns - vector_words));
      else
        rows_product<Lane, 1, RowStep, WordStep>(rows, words, a + i * RowStep, right, accumulate, to, c_stride,
                                                 first_lanes(columns));
    }
    i += rows;
  }
}

template <class Lane>
void product(int64_t m, int64_t n, int64_t k, const void* a, bool a_transposed, const void* b, bool accumulate,
             float* c, int64_t c_stride) {
  const int64_t words = (k + Lane::per_word - 1) / Lane::per_word;
  const auto *left = static_cast<const int32_t*>(a), *right = static_cast<const int32_t*>(b);
  if (a_transposed)
    panels_product<Lane, 1, tile_stride>(m, n, words, left, right, accumulate, c, c_stride);
  else
    panels_product<Lane, tile_stride / Lane::per_word, 1>(m, n, words, left, right, accumulate, c, c_stride);
}

// 16 by 16 words: to[j * panel + i] = rows[i][j].
void transpose(__m512i (&rows)[16], int count, int32_t* to) {
  transpose_lanes(rows);
  for (int i = 0; i < count; ++i) _mm512_store_si512(to + i * panel, rows[i]);
}

}  // namespace
}  // namespace duet::ops::detail
