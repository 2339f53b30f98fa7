// Included by the files that are compiled one per set of instructions and element type, after ops/lanes_*.h and once
// each has said in an anonymous namespace how many rows by how many vectors of columns are computed together,
// `most_rows` and `panel_vectors`, and whether one panel is used for all rows before the next, `panel_by_panel`: where
// a tile is small, and reads more, it then reads from the first-level cache. No function of others that is inline or a
// template: the linker might choose the copy from here for all, also where there are no such instructions.
#pragma once

#include "duet/ops/register_tile.h"
#include "duet/ops/tile_product.h"

namespace duet::ops::detail {
namespace {

constexpr int panel = panel_vectors * lanes;

// M rows by V vectors of columns, of which `columns` count. Word l of row i of a is at i * RowStep + l * WordStep.
template <class Word, int M, int V, int64_t RowStep, int64_t WordStep>
void micro_product(int64_t words, const float* a, const float* b, bool accumulates, float* c, int64_t c_stride,
                   int64_t columns) {
  Floats sum[M][V] = {};
  for (int64_t l = 0; l < words; ++l) add_word<Word, RowStep>(a + l * WordStep, b + l * panel, sum);
  store_tile(sum, accumulates, c, c_stride, columns);
}

template <class Word, int V, int64_t RowStep, int64_t WordStep, int M = most_rows>
void rows_product(int64_t rows, int64_t words, const float* a, const float* b, bool accumulates, float* c,
                  int64_t c_stride, int64_t columns) {
  if constexpr (M > 1)
    if (rows < M)
      return rows_product<Word, V, RowStep, WordStep, M - 1>(rows, words, a, b, accumulates, c, c_stride, columns);
  micro_product<Word, M, V, RowStep, WordStep>(words, a, b, accumulates, c, c_stride, columns);
}

// Some rows by one panel, of whose vectors those count that have columns.
template <class Word, int64_t RowStep, int64_t WordStep, int V = panel_vectors>
void panel_product(int64_t rows, int64_t words, const float* a, const float* b, bool accumulates, float* c,
                   int64_t c_stride, int64_t columns) {
  if constexpr (V > 1)
    if (columns <= (V - 1) * lanes)
      return panel_product<Word, RowStep, WordStep, V - 1>(rows, words, a, b, accumulates, c, c_stride, columns);
  rows_product<Word, V, RowStep, WordStep>(rows, words, a, b, accumulates, c, c_stride, columns);
}

// How many of the rows left are computed together. The last two groups share what is left: three rows alone would keep
// the units half busy.
inline int64_t next_rows(int64_t left) {
  return left <= most_rows ? left : left < 2 * most_rows ? (left + 1) / 2 : most_rows;
}

template <class Word, int64_t RowStep, int64_t WordStep>
void panels_product(int64_t m, int64_t n, int64_t words, const float* a, const float* b, bool accumulates, float* c,
                    int64_t c_stride) {
  const auto part = [=](int64_t i, int64_t rows, int64_t j) {
    panel_product<Word, RowStep, WordStep>(rows, words, a + i * RowStep, b + j * words, accumulates,
                                           c + i * c_stride + j, c_stride, n - j);
  };
  if constexpr (panel_by_panel) {
    for (int64_t j = 0; j < n; j += panel)
      for (int64_t i = 0, rows; i < m; i += rows) part(i, rows = next_rows(m - i), j);
  } else {
    for (int64_t i = 0, rows; i < m; i += rows) {
      rows = next_rows(m - i);
      for (int64_t j = 0; j < n; j += panel) part(i, rows, j);
    }
  }
}

template <class Word>
void product(int64_t m, int64_t n, int64_t k, const void* a, bool a_transposed, const void* b, bool accumulates,
             float* c, int64_t c_stride) {
  const int64_t words = (k + Word::per_word - 1) / Word::per_word;
  const auto *left = static_cast<const float*>(a), *right = static_cast<const float*>(b);
  if (a_transposed)
    panels_product<Word, 1, tile_stride>(m, n, words, left, right, accumulates, c, c_stride);
  else
    panels_product<Word, tile_stride / Word::per_word, 1>(m, n, words, left, right, accumulates, c, c_stride);
}

// Panels of `panel` columns, in each k rows of floats, from elements of type T.
template <class T>
void arrange_floats(int64_t k, int64_t n, const void* from, int64_t stride, bool transposed, void* arranged) {
  const auto* b = static_cast<const T*>(from);
  auto* to = static_cast<float*>(arranged);
  for (int64_t j = 0; j < n; j += panel, to += k * panel)
    for (int vector = 0; vector < panel; vector += lanes) {
      const int64_t column = j + vector, columns = n - column;
      if (!transposed) {
        const Mask mask = first_lanes(columns);
        for (int64_t l = 0; l < k; ++l) store(to + l * panel + vector, load(b + l * stride + column, mask));
        continue;
      }
      for (int64_t l = 0; l < k; l += lanes) {
        Floats rows[lanes];
        const Mask words = first_lanes(k - l);
        for (int i = 0; i < lanes; ++i) rows[i] = i < columns ? load(b + (column + i) * stride + l, words) : Floats{};
        store_transposed<lanes>(rows, k - l, to + l * panel + vector, panel);
      }
    }
}

}  // namespace
}  // namespace duet::ops::detail
