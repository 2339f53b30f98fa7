#pragma once

#include <algorithm>

#include "duet/core/parallel.h"
#include "duet/core/tensor.h"

namespace duet::ops {

// Sums over rows, as the gradients of biases and norms are: f(row, sums) adds what a row gives to `count` sums. Rows
// are added up in stretches whose number depends on the sizes alone, then the stretches in order, so that the result
// does not depend on the number of threads. A row is visited once, and f may do more with it.
template <class W, class F>
void sum_over_rows(int64_t row_count, int64_t count, W* total, F&& f) {
  constexpr int64_t most_stretches = 16, least_work = 1 << 12;
  const int64_t most = std::clamp<int64_t>(row_count, 1, most_stretches);
  const int64_t stretches = std::clamp<int64_t>(row_count * std::max<int64_t>(count, 1) / least_work, 1, most);
  const auto size = static_cast<size_t>(stretches * count);
  const Storage memory(size * sizeof(W), Device{});
  W* const sums = reinterpret_cast<W*>(memory.data());
  parallel_for(stretches, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      std::fill_n(sums + s * count, count, W(0));
      for (int64_t r = row_count * s / stretches; r < row_count * (s + 1) / stretches; ++r) f(r, sums + s * count);
    }
  });
  std::copy_n(sums, count, total);
  for (int64_t s = 1; s < stretches; ++s)
    for (int64_t c = 0; c < count; ++c) total[c] += sums[s * count + c];
}

// y[c] = sum over rows of x[r][c].
template <class T>
void column_sum(Rows<const T> x, Wide<T>* y) {
  using W = Wide<T>;
  const auto add = [](const T* row, int64_t begin, int64_t end, W* sums) {
    for (int64_t c = begin; c < end; ++c) sums[c] += static_cast<W>(row[c]);
  };
  if (x.count >= 64)
    return sum_over_rows<W>(x.count, x.width, y, [&](int64_t r, W* sums) { add(x.row(r), 0, x.width, sums); });
  // Few long rows: each thread takes some of the columns.
  parallel_for(
      x.width, 1 << 10,
      [&](int64_t begin, int64_t end) {
        std::fill(y + begin, y + end, W(0));
        for (int64_t r = 0; r < x.count; ++r) add(x.row(r), begin, end, y);
      },
      1);
}

}  // namespace duet::ops
