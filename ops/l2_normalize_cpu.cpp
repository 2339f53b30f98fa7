#include <cmath>

#include "duet/core/parallel.h"
#include "duet/ops/l2_normalize.h"
#include "duet/ops/wide_row.h"

namespace duet::ops {

template <class T>
void l2_normalize_forward(CpuContext, Rows<const T> x, Wide<T> eps, Rows<T> y, Wide<T>* inverse_norm) {
  using W = Wide<T>;
  parallel_for(x.count, 1 + (1 << 14) / x.width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Widened<T> in{x.row(r)};
      W squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t c = 0; c < x.width; ++c) squares += in[c] * in[c];
      const W norm = std::sqrt(squares);
      inverse_norm[r] = W(1) / (norm < eps ? eps : norm);
      for (int64_t c = 0; c < x.width; ++c) y.row(r)[c] = static_cast<T>(in[c] * inverse_norm[r]);
    }
  });
}

template <class T>
void l2_normalize_backward(CpuContext, Rows<const T> y, const Wide<T>* inverse_norm, Wide<T> eps, Rows<const T> dy,
                           Rows<T> dx) {
  using W = Wide<T>;
  parallel_for(y.count, 1 + (1 << 14) / y.width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Widened<T> out{y.row(r)}, g{dy.row(r)};
      W dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t c = 0; c < y.width; ++c) dot += out[c] * g[c];
      if (inverse_norm[r] == W(1) / eps) dot = 0;
      for (int64_t c = 0; c < y.width; ++c) dx.row(r)[c] = static_cast<T>((g[c] - out[c] * dot) * inverse_norm[r]);
    }
  });
}

#define DUET_INSTANTIATE(T)                                                                     \
  template void l2_normalize_forward<T>(CpuContext, Rows<const T>, Wide<T>, Rows<T>, Wide<T>*); \
  template void l2_normalize_backward<T>(CpuContext, Rows<const T>, const Wide<T>*, Wide<T>, Rows<const T>, Rows<T>);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
