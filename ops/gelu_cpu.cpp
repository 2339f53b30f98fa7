#include "duet/ops/gelu.h"
#include "duet/ops/map.h"
#include "duet/ops/vector_math.h"

namespace duet::ops {

template <class T>
void gelu_forward(CpuContext, bool tanh_approximation, const Tensor& x, const Tensor& y) {
  if (tanh_approximation)
    map_elements<T>(
        y, [](Wide<T> v) { return gelu_tanh(v); }, x);
  else
    map_elements<T>(
        y, [](Wide<T> v) { return gelu_exact(v); }, x);
}

template <class T>
void gelu_backward(CpuContext, bool tanh_approximation, const Tensor& x, const Tensor& dy, const Tensor& dx) {
  if (tanh_approximation)
    map_elements<T>(
        dx, [](Wide<T> v, Wide<T> g) { return g * gelu_tanh_derivative(v); }, x, dy);
  else
    map_elements<T>(
        dx, [](Wide<T> v, Wide<T> g) { return g * gelu_exact_derivative(v); }, x, dy);
}

#define DUET_INSTANTIATE(T)                                                      \
  template void gelu_forward<T>(CpuContext, bool, const Tensor&, const Tensor&); \
  template void gelu_backward<T>(CpuContext, bool, const Tensor&, const Tensor&, const Tensor&);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
