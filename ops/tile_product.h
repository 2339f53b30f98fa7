#pragma once

#include "duet/ops/gemm.h"

// Products of matrices that stay in one core's cache, which attention is made of. A library's product spends as long on
// finding its way and arranging operands as on such a product; here an operand is arranged once and used many times.
namespace duet::ops {

// Left operands lie in tiles whose rows are this many elements apart, so that kernels know it beforehand. An odd number
// of cache lines: rows do not fall into the same few places of the cache.
constexpr int64_t tile_stride = 528;
constexpr int64_t most_tile_columns = 512;

// Elements that the right operand (k, n) takes when arranged, with room for whole vectors.
template <class T>
int64_t arranged_size(int64_t k, int64_t n);
// Arranges b (k, n), which may be stored transposed, at `to`, which is aligned to 64 bytes.
template <class T>
void arrange(int64_t k, int64_t n, Matrix<const T> b, T* to);

// c (m, n) = a (m, k) b (k, n), or += when `accumulate`; c's rows are c_stride apart. a is a tile of at most
// most_tile_columns, in bfloat16 with a zero behind rows of odd length; b is arranged.
// With a_transposed the tile is (k, m), as tile_of_pairs makes it.
template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, const T* a, bool a_transposed, const T* b, bool accumulate,
                  Wide<T>* c, int64_t c_stride);

// The same tile in T: itself where sums are T, else rounded into `to`.
template <class T>
const T* tile_of(const Wide<T>* from, int64_t rows, int64_t columns, T* to);
// As tile_of, for use as a transposed left operand: where bfloat16 is multiplied in pairs, element (i, j) comes to
// place 2 j + i % 2 of row i / 2, whose rows are 2 tile_stride apart, and an odd last row is paired with zeros.
template <class T>
const T* tile_of_pairs(const Wide<T>* from, int64_t rows, int64_t columns, T* to);

// Where the instructions are known: what tile_product does in AVX2 and AVX-512 (f32) and in AVX512-BF16. Direct
// ones take fewer instructions and read more. Widened ones have bfloat16 arranged as floats, and take left operands of
// floats.
namespace detail {
struct TileKernels {
  void (*arrange)(int64_t k, int64_t n, const void* b, int64_t stride, bool transposed, void* to);
  void (*product)(int64_t m, int64_t n, int64_t k, const void* a, bool a_transposed, const void* b, bool accumulate,
                  float* c, int64_t c_stride);
  // Null where a transposed left operand lies as any other.
  void (*pairs)(const float* from, int64_t rows, int64_t columns, void* to);
};
extern const TileKernels avx2_tiles, avx512_tiles, avx512_direct_tiles, avx512_bf16_tiles, avx512_widened_tiles;
}  // namespace detail

}  // namespace duet::ops
