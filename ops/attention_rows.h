#pragma once

#include <cstdint>

#include "duet/core/cpu.h"
#include "duet/core/dtype.h"

// What attention on the CPU does to tiles of scores between its products. Several rows are computed side by side: most
// rows are short, and alone would wait for their own sums and for calls.
namespace duet::ops {

// What dropout takes from a tile's rows: number j of row i is at numbers[i * stride + j].
template <class W>
struct Dropped {
  const uint32_t* numbers = nullptr;  // null: nothing is dropped
  int64_t stride = 0;
  uint32_t threshold = 0;  // a probability whose number reaches it is kept
  W keep = 1;              // what those that are kept are multiplied with
};

// Rows of n elements, at most most_tile_columns, are tile_stride apart.
template <class W>
struct AttentionRows {
  // x = exp(scale x - top), and then dropped, where top becomes the larger one of itself and scale times the row's
  // largest, NaN left out. sums: of the exponentials before any is dropped.
  void (*softmax)(W* x, int64_t rows, int64_t n, W scale, const Dropped<W>& dropped, W* tops, W* sums);
  // p: from scores to probabilities exp(scale p - log_sum), of which d finds p' = what dropout leaves; d: from the
  // gradients of p' to those of the scores, p (dp - dot) scale, where dot is the row's sum of p dp; then p becomes p'.
  // d may be null, and `dots` then too.
  void (*softmax_backward)(W* p, W* d, int64_t rows, int64_t n, W scale, const Dropped<W>& dropped, const W* log_sums,
                           const W* dots);
};

// The copy for cpu_instructions(). W: float, double.
template <class W>
const AttentionRows<W>& attention_rows();
// The copy for those instructions, which the processor must have.
template <class W>
const AttentionRows<W>& attention_rows(CpuInstructions instructions);

namespace detail {
extern const AttentionRows<float> baseline_attention_rows, avx2_attention_rows, avx512_attention_rows;
}  // namespace detail

}  // namespace duet::ops
