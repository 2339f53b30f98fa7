#pragma once

#include <algorithm>

#include "duet/core/parallel.h"
#include "duet/core/tensor.h"

namespace duet::ops {

// Calls f(row, begin, end) for every row over a fixed block of columns per thread. Column reductions (bias and norm
// gradients) use it: each column is summed in row order, so the result does not depend on the thread count.
template <class F>
void for_column_blocks(int64_t row_count, int64_t width, F&& f) {
  parallel_for(width, std::max<int64_t>(16, (1 << 14) / std::max<int64_t>(row_count, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = 0; r < row_count; ++r) f(r, begin, end);
               });
}

// y[c] = sum over rows of x[r][c].
template <class T>
void column_sum(Rows<const T> x, Wide<T>* y) {
  std::fill_n(y, x.width, Wide<T>(0));
  for_column_blocks(x.count, x.width, [&](int64_t r, int64_t begin, int64_t end) {
    const T* row = x.row(r);
    for (int64_t c = begin; c < end; ++c) y[c] += static_cast<Wide<T>>(row[c]);
  });
}

}  // namespace duet::ops
