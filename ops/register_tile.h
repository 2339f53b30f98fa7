// Included by the files that are compiled one per set of instructions, after ops/lanes_*.h: what products in float and
// bfloat16 do in registers. Recursions instead of loops, since g++ 12 keeps arrays that loops go over in memory.
#pragma once

#include <cstdint>

namespace duet::ops::detail {
namespace {

// A product works on words of 32 bits: one float, or two neighbours in k of bfloat16. With the first `direct_rows` rows
// multiply-adds read and spread the left operand's word themselves, one by one, by multiply_add_direct.
struct Float {
  static constexpr int per_word = 1, direct_rows = 0;
  static void multiply_add(Floats& sum, Floats a, Floats b) { accumulate(sum, a, b); }
};

template <class Word, int V, int v = 0>
[[gnu::always_inline]] inline void add_vectors(Floats x, const Floats (&right)[V], Floats (&sum)[V]) {
  if constexpr (v < V) {
    Word::multiply_add(sum[v], x, right[v]);
    add_vectors<Word, V, v + 1>(x, right, sum);
  }
}
template <class Word, int V, int v = 0>
[[gnu::always_inline]] inline void add_vectors_direct(const float& x, const Floats (&right)[V], Floats (&sum)[V]) {
  if constexpr (v < V) {
    Word::multiply_add_direct(sum[v], x, right[v]);
    add_vectors_direct<Word, V, v + 1>(x, right, sum);
  }
}
template <class Word, int64_t RowStep, int R, int V, int r = 0>
[[gnu::always_inline]] inline void add_rows(const float* a, const Floats (&right)[V], Floats (&sum)[R][V]) {
  if constexpr (r < R) {
    if constexpr (r < Word::direct_rows)
      add_vectors_direct<Word>(a[r * RowStep], right, sum[r]);
    else
      add_vectors<Word>(splat(a[r * RowStep]), right, sum[r]);
    add_rows<Word, RowStep, R, V, r + 1>(a, right, sum);
  }
}
template <int V, int v = 0>
[[gnu::always_inline]] inline void load_vectors(const float* b, Floats (&to)[V]) {
  if constexpr (v < V) {
    to[v] = load(b + v * lanes);
    load_vectors<V, v + 1>(b, to);
  }
}
// sum += one word of each of R rows, RowStep words apart, times V vectors of columns.
template <class Word, int64_t RowStep, int R, int V>
[[gnu::always_inline]] inline void add_word(const float* a, const float* b, Floats (&sum)[R][V]) {
  Floats right[V];
  load_vectors(b, right);
  add_rows<Word, RowStep>(a, right, sum);
}

// sum, of which columns from `columns` on do not count, to c, or on top of it.
template <int R, int V>
[[gnu::always_inline]] inline void store_tile(Floats (&sum)[R][V], bool adds, float* c, int64_t c_stride,
                                              int64_t columns) {
  Mask masks[V];
#pragma GCC unroll 3
  for (int v = 0; v < V; ++v) masks[v] = first_lanes(columns - v * lanes);
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) {
      float* const to = c + r * c_stride + v * lanes;
      if (adds) sum[r][v] = sum[r][v] + load(to, masks[v]);
      store(to, masks[v], sum[r][v]);
    }
}

// to[j * step + i] = lane j of x[i], for j < columns and i < Count.
template <int Count>
[[gnu::always_inline]] inline void store_transposed(Floats (&x)[lanes], int64_t columns, float* to, int64_t step) {
  transpose_lanes(x);
  if constexpr (Count < lanes)
    if (columns == lanes && step == Count) return store_side_by_side<Count>(to, x);
#pragma GCC unroll 16
  for (int j = 0; j < lanes; ++j)
    if (j < columns) store_some<Count>(to + j * step, x[j]);
}

}  // namespace
}  // namespace duet::ops::detail
