#include "duet/ops/gelu.h"
#include "duet/ops/map.h"
#include "duet/ops/vector_math.h"

namespace duet::ops {

template <class T>
void gelu_forward(CpuContext, bool tanh_approximation, const Tensor& x, const Tensor& y) {
  const VectorMath<T>& math = vector_math<T>();
  map_spans<T>(y, tanh_approximation ? math.gelu_tanh : math.gelu, x);
}

template <class T>
void gelu_backward(CpuContext, bool tanh_approximation, const Tensor& x, const Tensor& dy, const Tensor& dx) {
  const VectorMath<T>& math = vector_math<T>();
  map_spans<T>(dx, tanh_approximation ? math.gelu_tanh_backward : math.gelu_backward, x, dy);
}

#define DUET_INSTANTIATE(T)                                                      \
  template void gelu_forward<T>(CpuContext, bool, const Tensor&, const Tensor&); \
  template void gelu_backward<T>(CpuContext, bool, const Tensor&, const Tensor&, const Tensor&);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
