#ifdef __AVX512BF16__
#include "duet/ops/lanes_avx512.h"

namespace duet::ops::detail {
namespace {
constexpr int most_rows = 12, panel_vectors = 2;
constexpr bool panel_by_panel = false;
}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/tile_kernels.h"

namespace duet::ops::detail {
namespace {

struct Bfloat16 {
  static constexpr int per_word = 2, direct_rows = 0;
  static void multiply_add(Floats& sum, Floats a, Floats b) {
    sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

// Panels of 32 columns, in each (k + 1) / 2 rows of 32 words, which hold two neighbours in k.
void arrange_bf16(int64_t k, int64_t n, const void* from, int64_t stride, bool transposed, void* arranged) {
  const auto* b = static_cast<const uint16_t*>(from);
  auto* to = static_cast<int32_t*>(arranged);
  const int64_t words = (k + 1) / 2;
  for (int64_t j = 0; j < n; j += panel, to += words * panel)
    for (int half = 0; half < panel; half += lanes) {
      const int64_t column = j + half, columns = n - column;
      const __mmask16 mask = first_lanes(columns);
      if (!transposed) {
        for (int64_t l = 0; l < k; l += 2) {
          const uint16_t* row = b + l * stride + column;
          const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row));
          const __m512i high =
              l + 1 < k ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row + stride)) : _mm512_setzero_si512();
          _mm512_store_si512(to + l / 2 * panel + half, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
        }
        continue;
      }
      for (int64_t l = 0; l < k; l += 2 * lanes) {
        __m512i rows[16];
        const int64_t elements = k - l;
        const __mmask32 there = elements >= 32 ? ~__mmask32(0) : (__mmask32(1) << elements) - 1;
        for (int i = 0; i < 16; ++i)
          rows[i] =
              i < columns ? _mm512_maskz_loadu_epi16(there, b + (column + i) * stride + l) : _mm512_setzero_si512();
        const int64_t count = (elements + 1) / 2;
        transpose_lanes(rows);
        for (int i = 0; i < lanes && i < count; ++i) _mm512_store_si512(to + l / 2 * panel + half + i * panel, rows[i]);
      }
    }
}

void pairs_bf16(const float* from, int64_t rows, int64_t columns, void* paired) {
  auto* to = static_cast<int32_t*>(paired);
  for (int64_t i = 0; i < rows; i += 2, from += 2 * tile_stride, to += tile_stride)
    for (int64_t j = 0; j < columns; j += lanes) {
      const __mmask16 mask = first_lanes(columns - j);
      const __m512 even = _mm512_maskz_loadu_ps(mask, from + j);
      const __m512 odd = i + 1 < rows ? _mm512_maskz_loadu_ps(mask, from + tile_stride + j) : _mm512_setzero_ps();
      const __m512i low = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(even)));
      const __m512i high = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(odd)));
      _mm512_mask_storeu_epi32(to + j, mask, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

}  // namespace

const TileKernels avx512_bf16_tiles{arrange_bf16, product<Bfloat16>, pairs_bf16};

}  // namespace duet::ops::detail
#endif
