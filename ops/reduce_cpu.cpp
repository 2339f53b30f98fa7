#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"
#include "duet/ops/reduce.h"

namespace duet::ops {

template <class T>
void sum_rows_forward(CpuContext, Rows<const T> x, double factor, T* y) {
  parallel_for(x.count, 1 + (1 << 14) / std::max<int64_t>(x.width, 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* in = x.row(r);
      double total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t c = 0; c < x.width; ++c) total += convert<double>(in[c]);
      y[r] = convert<T>(total * factor);
    }
  });
}

template <class T>
void sum_rows_backward(CpuContext, const T* dy, double factor, Rows<T> dx) {
  parallel_for(dx.count, 1 + (1 << 14) / std::max<int64_t>(dx.width, 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) std::fill_n(dx.row(r), dx.width, convert<T>(convert<double>(dy[r]) * factor));
  });
}

#define DUET_INSTANTIATE(T)                                                 \
  template void sum_rows_forward<T>(CpuContext, Rows<const T>, double, T*); \
  template void sum_rows_backward<T>(CpuContext, const T*, double, Rows<T>);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
