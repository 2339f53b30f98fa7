#ifdef __AVX2__
#include <immintrin.h>

#include <cstdint>

namespace duet::ops::detail {
namespace {

constexpr int lanes = 8;
using Words = __m256i;

inline Words splat(uint32_t x) {
  return _mm256_set1_epi32(static_cast<int>(x));
}
inline void store(uint32_t* x, Words v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), v);
}
// The halves of first + places[l].
inline void counters(uint64_t first, const uint32_t* places, Words& low, Words& high) {
  const Words start = splat(static_cast<uint32_t>(first));
  low = _mm256_add_epi32(start, _mm256_load_si256(reinterpret_cast<const __m256i*>(places)));
  // There is no unsigned comparison: all bits, -1, where the sum is not below its start.
  const Words no_carry = _mm256_cmpeq_epi32(_mm256_max_epu32(low, start), low);
  high = _mm256_add_epi32(splat(static_cast<uint32_t>(first >> 32) + 1), no_carry);
}
// The halves of the products. The instruction multiplies every other number.
inline void multiply(Words x, uint32_t by, Words& high, Words& low) {
  constexpr int odd = 0xAA, evens = 0xA0, odds = 0xF5;  // the last two: in both places
  const Words factor = splat(by);
  const Words even_product = _mm256_mul_epu32(x, factor);
  const Words odd_product = _mm256_mul_epu32(_mm256_shuffle_epi32(x, odds), factor);
  high = _mm256_blend_epi32(_mm256_shuffle_epi32(even_product, odds), odd_product, odd);
  low = _mm256_blend_epi32(even_product, _mm256_shuffle_epi32(odd_product, evens), odd);
}
// In every 128 bits, lane j of x[i] becomes lane i of x[j].
inline void interleave(Words (&x)[4]) {
  const Words a = _mm256_unpacklo_epi32(x[0], x[1]), b = _mm256_unpackhi_epi32(x[0], x[1]);
  const Words c = _mm256_unpacklo_epi32(x[2], x[3]), d = _mm256_unpackhi_epi32(x[2], x[3]);
  x[0] = _mm256_unpacklo_epi64(a, c);
  x[1] = _mm256_unpackhi_epi64(a, c);
  x[2] = _mm256_unpacklo_epi64(b, d);
  x[3] = _mm256_unpackhi_epi64(b, d);
}

}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/philox_kernels.h"

namespace duet::ops::detail {
void avx2_philox_blocks(RandomKey key, uint64_t first_block, int64_t blocks, uint32_t* numbers) {
  philox_of_lanes(key, first_block, blocks, numbers);
}
}  // namespace duet::ops::detail
#endif
