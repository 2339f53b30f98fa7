#ifdef __AVX512F__
#include <immintrin.h>

#include <cstdint>

namespace duet::ops::detail {
namespace {

constexpr int lanes = 16;
using Words = __m512i;

inline Words splat(uint32_t x) {
  return _mm512_set1_epi32(static_cast<int>(x));
}
inline void store(uint32_t* x, Words v) {
  _mm512_storeu_si512(x, v);
}
// The halves of first + places[l].
inline void counters(uint64_t first, const uint32_t* places, Words& low, Words& high) {
  const Words start = splat(static_cast<uint32_t>(first));
  low = _mm512_add_epi32(start, _mm512_load_si512(places));
  high = splat(static_cast<uint32_t>(first >> 32));
  high = _mm512_mask_add_epi32(high, _mm512_cmplt_epu32_mask(low, start), high, splat(1));
}
// The halves of the products. The instruction multiplies every other number; shuffles, unlike shifts, do not wait for
// the unit that multiplies.
inline void multiply(Words x, uint32_t by, Words& high, Words& low) {
  constexpr __mmask16 even = 0x5555, odd = 0xAAAA;
  constexpr auto evens = static_cast<_MM_PERM_ENUM>(0xA0), odds = static_cast<_MM_PERM_ENUM>(0xF5);  // in both places
  const Words factor = splat(by);
  const Words even_product = _mm512_mul_epu32(x, factor);
  const Words odd_product = _mm512_mul_epu32(_mm512_shuffle_epi32(x, odds), factor);
  high = _mm512_mask_shuffle_epi32(odd_product, even, even_product, odds);
  low = _mm512_mask_shuffle_epi32(even_product, odd, odd_product, evens);
}
// In every 128 bits, lane j of x[i] becomes lane i of x[j].
inline void interleave(Words (&x)[4]) {
  const Words a = _mm512_unpacklo_epi32(x[0], x[1]), b = _mm512_unpackhi_epi32(x[0], x[1]);
  const Words c = _mm512_unpacklo_epi32(x[2], x[3]), d = _mm512_unpackhi_epi32(x[2], x[3]);
  x[0] = _mm512_unpacklo_epi64(a, c);
  x[1] = _mm512_unpackhi_epi64(a, c);
  x[2] = _mm512_unpacklo_epi64(b, d);
  x[3] = _mm512_unpackhi_epi64(b, d);
}

}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/philox_kernels.h"

namespace duet::ops::detail {
void avx512_philox_blocks(RandomKey key, uint64_t first_block, int64_t blocks, uint32_t* numbers) {
  philox_of_lanes(key, first_block, blocks, numbers);
}
}  // namespace duet::ops::detail
#endif
