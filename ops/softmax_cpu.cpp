#include "duet/core/parallel.h"
#include "duet/ops/softmax.h"
#include "duet/ops/vector_math.h"
#include "duet/ops/wide_row.h"

namespace duet::ops {

template <class T>
void softmax_forward(CpuContext, Rows<const T> x, Rows<T> y) {
  using W = Wide<T>;
  const VectorMath<T>& math = vector_math<T>();
  parallel_for(x.count, 1 + (1 << 12) / x.width, [&](int64_t begin, int64_t end) {
    WideRow<T> row(x.width);
    for (int64_t r = begin; r < end; ++r) {
      W* exponentials = row.of(y.row(r));
      const W top = math.largest(x.row(r), x.width);
      const double sum = math.exponentials(x.row(r), exponentials, x.width, 1, top);
      math.scale(exponentials, y.row(r), x.width, static_cast<W>(1 / sum));
    }
  });
}

template <class T>
void softmax_backward(CpuContext, Rows<const T> y, Rows<const T> dy, Rows<T> dx) {
  using W = Wide<T>;
  parallel_for(y.count, 1 + (1 << 13) / y.width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Widened<T> p{y.row(r)}, g{dy.row(r)};
      T* out = dx.row(r);
      W sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < y.width; ++c) sum += p[c] * g[c];
      for (int64_t c = 0; c < y.width; ++c) out[c] = static_cast<T>(p[c] * (g[c] - sum));
    }
  });
}

#define DUET_INSTANTIATE(T)                                             \
  template void softmax_forward<T>(CpuContext, Rows<const T>, Rows<T>); \
  template void softmax_backward<T>(CpuContext, Rows<const T>, Rows<const T>, Rows<T>);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
