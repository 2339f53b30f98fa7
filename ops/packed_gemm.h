#pragma once

#include "duet/ops/gemm.h"

// Large products in AVX2 and AVX-512, after Goto & van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication" (2008): operands are copied into panels that a kernel reads one after the other, of 4 rows by 24
// columns in AVX2, of 14 by 32 in AVX-512. The right operand's panels for the next columns, and the left one's for the
// next rows, are copied between two tiles of the product, what they are made of having been fetched while the tile
// before was computed, so that a thread seldom waits for memory.
namespace duet::ops::detail {

// Some columns of a product, ready to be computed by any thread, a group of rows at a time. The kernels have more in
// it.
struct PackedBlock {};

// Hands out the rows of blocks to the thread whose part of the product they are and to threads that are done with
// theirs: cores are seldom equally free, and the slowest would keep all others waiting.
class RowSharing {
 public:
  virtual void open(const PackedBlock& block, int64_t groups) = 0;  // groups of rows
  virtual int64_t take() = 0;                                       // the next group, or -1 when none is left
  virtual void close() = 0;                                         // returns when nobody works on the block any more

 protected:
  ~RowSharing() = default;
};

template <class T, class Out>
struct PackedGemm {
  int64_t columns;  // that are computed together: a thread's part should have a multiple
  // Floats of scratch memory, aligned to 64 bytes, that a product takes.
  int64_t (*scratch)(int64_t m, int64_t n, int64_t k);
  // c (m, n) = a (m, k) b (k, n) + bias, or with `adds` c += it, on the calling thread and those it shares rows with,
  // each element in the same order of terms. bias, n elements, may be null. Unless f is null, f(a) takes the place of
  // a, which then is not transposed. Sizes above zero; c must not overlap a or b and unless `adds` may hold anything.
  void (*run)(int64_t m, int64_t n, int64_t k, SpanFunction<T> f, Matrix<const T> a, Matrix<const T> b,
              const float* bias, bool adds, Matrix<Out> c, float* scratch, RowSharing& sharing);
  // Computes a group of rows that `take` has handed out.
  void (*rows)(const PackedBlock& block, int64_t group);
};
// The direct kernels' multiply-adds read the left operand themselves: fewer instructions, which pays on Intel's
// processors while another program runs on the same core.
extern const PackedGemm<float, float> avx2_packed_gemm, avx512_packed_gemm, avx512_direct_gemm;
// Of bfloat16, which becomes float on the way into the panels.
extern const PackedGemm<bf16, bf16> avx512_widened_gemm;
extern const PackedGemm<bf16, float> avx512_widened_gemm_to_float;

// The kernels for this product where they are faster than oneDNN's, or null.
const PackedGemm<float, float>* packed_gemm_for(int64_t m, int64_t n, int64_t k, Matrix<const float> a,
                                                Matrix<const float> b);
template <class Out>
const PackedGemm<bf16, Out>* widened_gemm_for(int64_t m, int64_t n, int64_t k);
// As PackedGemm::run, on all threads.
template <class T, class Out>
void packed_gemm(const PackedGemm<T, Out>& packed, int64_t m, int64_t n, int64_t k, Matrix<const T> a,
                 Matrix<const T> b, const float* bias, bool adds, Matrix<Out> c, SpanFunction<T> f = nullptr);

}  // namespace duet::ops::detail
