#include "duet/core/backend.h"
#include "duet/ops/column_sum.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/map.h"
#include "duet/ops/reduce.h"

namespace duet::ops {
namespace {

template <class T, class F>
void broadcast(const Tensor& a, const Tensor& b, const Tensor& y, F f) {
  if (a.numel() == b.numel()) return map_elements<T>(y, f, a, b);
  const int64_t width = b.numel();
  if (width == 0) return;
  const T *pa = a.data<T>(), *pb = b.data<T>();
  T* py = y.data<T>();
  parallel_for(a.numel() / width, 1 + (1 << 14) / width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < width; ++c)
        py[r * width + c] = static_cast<T>(f(static_cast<Wide<T>>(pa[r * width + c]), static_cast<Wide<T>>(pb[c])));
  });
}

}  // namespace

template <class T>
void binary_forward(CpuContext, Binary op, const Tensor& a, const Tensor& b, const Tensor& y) {
  using W = Wide<T>;
  switch (op) {
    case Binary::add:
      return broadcast<T>(a, b, y, [](W u, W v) { return u + v; });
    case Binary::subtract:
      return broadcast<T>(a, b, y, [](W u, W v) { return u - v; });
    case Binary::multiply:
      return broadcast<T>(a, b, y, [](W u, W v) { return u * v; });
    case Binary::divide:
      return broadcast<T>(a, b, y, [](W u, W v) { return u / v; });
  }
}

template <class T>
void sum_leading(CpuContext context, const Tensor& x, const Tensor& y) {
  const int64_t width = y.numel();
  if (width == 0) return;
  // The gradient of a scalar: one long sum, in double rather than one float after the other.
  if (width == 1) return sum_rows_forward<T>(context, {x.data<T>(), 1, x.numel()}, 1, y.data<T>());
  const Tensor sums = y.dtype() == wide(y.dtype()) ? y : Tensor::empty(y.shape(), wide(y.dtype()));
  column_sum<T>({x.data<T>(), x.numel() / width, width}, sums.data<Wide<T>>());
  if constexpr (!std::is_same_v<T, Wide<T>>)
    convert_elements<T, Wide<T>>(context, sums.data<Wide<T>>(), y.data<T>(), width);
}

template <class T>
void scale_forward(CpuContext, double factor, const Tensor& x, const Tensor& y) {
  map_elements<T>(
      y, [f = static_cast<Wide<T>>(factor)](Wide<T> v) { return f * v; }, x);
}

#define DUET_INSTANTIATE(T)                                                                         \
  template void binary_forward<T>(CpuContext, Binary, const Tensor&, const Tensor&, const Tensor&); \
  template void sum_leading<T>(CpuContext, const Tensor&, const Tensor&);                           \
  template void scale_forward<T>(CpuContext, double, const Tensor&, const Tensor&);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
