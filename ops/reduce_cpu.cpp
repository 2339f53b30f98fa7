#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"
#include "duet/ops/reduce.h"

namespace duet::ops {
namespace {

// In sixteen parts, whatever instructions it is compiled for: the parts' rounding errors add up to less than one
// running sum's, and the result is the same everywhere.
template <class T>
double sum_of(const T* x, int64_t n) {
  constexpr int64_t parts = 16;
  double sums[parts] = {};
  int64_t i = 0;
  for (; i + parts <= n; i += parts)
    for (int64_t j = 0; j < parts; ++j) sums[j] += convert<double>(x[i + j]);
  for (int64_t j = 0; i < n; ++i, ++j) sums[j] += convert<double>(x[i]);
  for (int64_t half = parts / 2; half > 0; half /= 2)
    for (int64_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0];
}

}  // namespace

template <class T>
void sum_rows_forward(CpuContext, Rows<const T> x, double factor, T* y) {
  parallel_for(x.count, 1 + (1 << 14) / std::max<int64_t>(x.width, 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) y[r] = convert<T>(sum_of(x.row(r), x.width) * factor);
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
