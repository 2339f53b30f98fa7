#include <cmath>

#include "duet/core/parallel.h"
#include "duet/ops/l2_normalize.h"

namespace duet::ops {

template <class T>
void l2_normalize_forward(CpuContext, Rows<const T> x, Wide<T> eps, Rows<T> y, Wide<T>* inverse_norm) {
  parallel_for(x.count, 1 + (1 << 14) / x.width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t c = 0; c < x.width; ++c) squares += x.row(r)[c] * x.row(r)[c];
      const T norm = std::sqrt(squares);
      inverse_norm[r] = T(1) / (norm < eps ? eps : norm);
      for (int64_t c = 0; c < x.width; ++c) y.row(r)[c] = x.row(r)[c] * inverse_norm[r];
    }
  });
}

template <class T>
void l2_normalize_backward(CpuContext, Rows<const T> y, const Wide<T>* inverse_norm, Wide<T> eps, Rows<const T> dy,
                           Rows<T> dx) {
  parallel_for(y.count, 1 + (1 << 14) / y.width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t c = 0; c < y.width; ++c) dot += y.row(r)[c] * dy.row(r)[c];
      if (inverse_norm[r] == T(1) / eps) dot = 0;
      for (int64_t c = 0; c < y.width; ++c) dx.row(r)[c] = (dy.row(r)[c] - y.row(r)[c] * dot) * inverse_norm[r];
    }
  });
}

#define DUET_INSTANTIATE(T)                                                         \
  template void l2_normalize_forward<T>(CpuContext, Rows<const T>, T, Rows<T>, T*); \
  template void l2_normalize_backward<T>(CpuContext, Rows<const T>, const T*, T, Rows<const T>, Rows<T>);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)

}  // namespace duet::ops
