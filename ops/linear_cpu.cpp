#include "duet/core/parallel.h"
#include "duet/ops/column_sum.h"
#include "duet/ops/linear.h"
#include "duet/ops/vector_math.h"

namespace duet::ops {
namespace {

// Runs f(row) over rows in parallel, at least 16K elements per thread.
template <class T, class F>
void for_rows(Rows<T> x, F&& f) {
  parallel_for(x.count, 1 + (1 << 14) / std::max<int64_t>(x.width, 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r);
  });
}

template <class T, class F>
void bias_then(Rows<T> z, const T* bias, Rows<T> y, F&& activation) {
  for_rows(z, [&](int64_t r) {
    T *zr = z.row(r), *yr = y.row(r);
    if (bias != nullptr)
      for (int64_t c = 0; c < z.width; ++c) zr[c] += bias[c];
    for (int64_t c = 0; c < z.width; ++c) yr[c] = activation(zr[c]);
  });
}

template <class T, class F>
void times_derivative(Rows<const T> z, Rows<const T> dy, Rows<T> dz, F&& derivative) {
  for_rows(z, [&](int64_t r) {
    const T *zr = z.row(r), *dyr = dy.row(r);
    T* dzr = dz.row(r);
    for (int64_t c = 0; c < z.width; ++c) dzr[c] = dyr[c] * derivative(zr[c]);
  });
}

}  // namespace

template <class T>
void bias_activation_forward(CpuContext, Rows<T> z, const T* bias, Activation activation, Rows<T> y) {
  switch (activation) {
    case Activation::none:
      return bias_then(z, bias, y, [](T v) { return v; });
    case Activation::gelu:
      return bias_then(z, bias, y, [](T v) { return gelu_exact(v); });
    case Activation::gelu_tanh:
      return bias_then(z, bias, y, [](T v) { return gelu_tanh(v); });
  }
}

template <class T>
void activation_backward(CpuContext, Rows<const T> z, Rows<const T> dy, Activation activation, Rows<T> dz) {
  switch (activation) {
    case Activation::none:
      return times_derivative(z, dy, dz, [](T) { return T(1); });
    case Activation::gelu:
      return times_derivative(z, dy, dz, [](T v) { return gelu_exact_derivative(v); });
    case Activation::gelu_tanh:
      return times_derivative(z, dy, dz, [](T v) { return gelu_tanh_derivative(v); });
  }
}

template <class T>
void bias_backward(CpuContext, Rows<const T> dy, T* dbias) {
  column_sum(dy, dbias);
}

#define DUET_INSTANTIATE(T)                                                                            \
  template void bias_activation_forward<T>(CpuContext, Rows<T>, const T*, Activation, Rows<T>);        \
  template void activation_backward<T>(CpuContext, Rows<const T>, Rows<const T>, Activation, Rows<T>); \
  template void bias_backward<T>(CpuContext, Rows<const T>, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)

}  // namespace duet::ops
