#ifdef __AVX512F__
#include "duet/ops/tile_kernels_avx512.h"

namespace duet::ops::detail {
namespace {

// Panels of 32 columns, in each k rows of 32 words.
void arrange_float(int64_t k, int64_t n, const void* from, int64_t stride, bool transposed, void* arranged) {
  const auto* b = static_cast<const int32_t*>(from);
  auto* to = static_cast<int32_t*>(arranged);
  for (int64_t j = 0; j < n; j += panel, to += k * panel)
    for (int half = 0; half < 2; ++half) {
      const int64_t column = j + half * vector_words, columns = n - column;
      const __mmask16 mask = first_lanes(columns);
      if (!transposed) {
        for (int64_t l = 0; l < k; ++l)
          _mm512_store_si512(to + l * panel + half * vector_words,
                             _mm512_maskz_loadu_epi32(mask, b + l * stride + column));
        continue;
      }
      for (int64_t l = 0; l < k; l += vector_words) {
        __m512i rows[16];
        const __mmask16 words = first_lanes(k - l);
        for (int i = 0; i < 16; ++i)
          rows[i] =
              i < columns ? _mm512_maskz_loadu_epi32(words, b + (column + i) * stride + l) : _mm512_setzero_si512();
        transpose(rows, static_cast<int>(k - l < vector_words ? k - l : vector_words),
                  to + l * panel + half * vector_words);
      }
    }
}

}  // namespace

const TileKernels avx512_tiles{arrange_float, product<Float>, nullptr};

}  // namespace duet::ops::detail
#endif
