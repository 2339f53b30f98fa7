#include "duet/ops/map.h"
#include "duet/ops/tanh.h"
#include "duet/ops/vector_math.h"

namespace duet::ops {

template <class T>
void tanh_forward(CpuContext, const Tensor& x, const Tensor& y) {
  map_spans<T>(y, vector_math<T>().tanh, x);
}

template <class T>
void tanh_backward(CpuContext, const Tensor& y, const Tensor& dy, const Tensor& dx) {
  map_elements<T>(
      dx, [](Wide<T> v, Wide<T> g) { return g * (Wide<T>(1) - v * v); }, y, dy);
}

#define DUET_INSTANTIATE(T)                                                \
  template void tanh_forward<T>(CpuContext, const Tensor&, const Tensor&); \
  template void tanh_backward<T>(CpuContext, const Tensor&, const Tensor&, const Tensor&);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
