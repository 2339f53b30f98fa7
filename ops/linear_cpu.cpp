#include "duet/core/parallel.h"
#include "duet/ops/column_sum.h"
#include "duet/ops/gemm.h"
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

// Null for none.
template <class T>
SpanFunction<T> function_of(Activation activation) {
  switch (activation) {
    case Activation::none:
      break;
    case Activation::gelu:
      return vector_math<T>().gelu;
    case Activation::gelu_tanh:
      return vector_math<T>().gelu_tanh;
  }
  return nullptr;
}

// y = f(z + bias); without an f z alone is written.
template <class T>
void bias_then(Rows<T> z, const Wide<T>* bias, Rows<T> y, SpanFunction<T> f) {
  using W = Wide<T>;
  for_rows(z, [&](int64_t r) {
    T* zr = z.row(r);
    if (bias != nullptr)
      for (int64_t c = 0; c < z.width; ++c) zr[c] = static_cast<T>(static_cast<W>(zr[c]) + bias[c]);
    if (f != nullptr) f(zr, y.row(r), z.width);
  });
}

// dz = dy f'(z), which `backward` computes. Unless they are null, also y = f(z) and the sums of dz over rows.
template <class T>
void times_derivative(Rows<const T> z, Rows<const T> dy, Rows<T> dz, Wide<T>* dbias, T* y,
                      void (*f)(const T*, T*, int64_t), void (*backward)(const T*, const T*, T*, int64_t)) {
  using W = Wide<T>;
  const auto row = [&](int64_t r) {
    backward(z.row(r), dy.row(r), dz.row(r), z.width);
    if (y != nullptr) f(z.row(r), y + r * z.width, z.width);
  };
  if (dbias == nullptr) return for_rows(z, row);
  sum_over_rows<W>(z.count, z.width, dbias, [&](int64_t r, W* sums) {
    row(r);
    const T* dzr = dz.row(r);
    for (int64_t c = 0; c < z.width; ++c) sums[c] += static_cast<W>(dzr[c]);
  });
}

}  // namespace

template <class T>
void linear_forward(CpuContext context, int64_t m, int64_t in, int64_t out, const T* x, const T* w, const Wide<T>* bias,
                    Activation activation, T* product, T* result) {
  if constexpr (std::is_same_v<T, bf16>) {
    gemm_add_bias(context, m, out, in, {x, in}, {w, in, true}, bias, {product, out});
    bias = nullptr;
  } else if constexpr (std::is_same_v<T, float>) {
    if (gemm_with_bias(context, m, out, in, {x, in}, {w, in, true}, bias, {product, out})) bias = nullptr;
  } else {
    gemm<T>(context, m, out, in, 1, {x, in}, {w, in, true}, 0, {product, out});
  }
  if (bias == nullptr && activation == Activation::none) return;
  bias_then<T>({product, m, out}, bias, {result, m, out}, function_of<T>(activation));
}

template <class T>
void activated_linear_forward(CpuContext context, int64_t m, int64_t in, int64_t out, const T* z, Activation activation,
                              const T* w, const Wide<T>* bias, T* y) {
  const SpanFunction<T> f = function_of<T>(activation);
  if (f == nullptr) return linear_forward<T>(context, m, in, out, z, w, bias, Activation::none, y, y);
  if constexpr (!std::is_same_v<T, double>)
    if (gemm_of<T>(context, m, out, in, f, {z, in}, {w, in, true}, bias, {y, out})) return;
  const Tensor hidden = Tensor::empty({m, in}, dtype_of<T>());
  const Rows<T> rows{hidden.data<T>(), m, in};
  for_rows(rows, [&](int64_t r) { f(z + r * in, rows.row(r), in); });
  linear_forward<T>(context, m, in, out, rows.data, w, bias, Activation::none, y, y);
}

template <class T>
void activation_backward(CpuContext, Rows<const T> z, Rows<const T> dy, Activation activation, Rows<T> dz,
                         Wide<T>* dbias, T* y) {
  const VectorMath<T>& math = vector_math<T>();
  switch (activation) {
    case Activation::none:
      return times_derivative<T>(
          z, dy, dz, dbias, y, [](const T* from, T* to, int64_t n) { std::copy_n(from, n, to); },
          [](const T*, const T* from, T* to, int64_t n) {
            if (from != to) std::copy_n(from, n, to);
          });
    case Activation::gelu:
      return times_derivative<T>(z, dy, dz, dbias, y, math.gelu, math.gelu_backward);
    case Activation::gelu_tanh:
      return times_derivative<T>(z, dy, dz, dbias, y, math.gelu_tanh, math.gelu_tanh_backward);
  }
}

template <class T>
void bias_backward(CpuContext, Rows<const T> dy, Wide<T>* dbias) {
  column_sum(dy, dbias);
}

template <class T>
void weight_backward(CpuContext context, int64_t m, int64_t in, int64_t out, const T* dz, const T* x, Wide<T>* dw,
                     Wide<T>* dbias) {
  if (dbias != nullptr) bias_backward<T>(context, {dz, m, out}, dbias);
  gemm<T, Wide<T>>(context, out, in, m, 1, {dz, out, true}, {x, in}, 0, {dw, in});
}

#define DUET_INSTANTIATE(T)                                                                                          \
  template void linear_forward<T>(CpuContext, int64_t, int64_t, int64_t, const T*, const T*, const Wide<T>*,         \
                                  Activation, T*, T*);                                                               \
  template void activated_linear_forward<T>(CpuContext, int64_t, int64_t, int64_t, const T*, Activation, const T*,   \
                                            const Wide<T>*, T*);                                                     \
  template void activation_backward<T>(CpuContext, Rows<const T>, Rows<const T>, Activation, Rows<T>, Wide<T>*, T*); \
  template void bias_backward<T>(CpuContext, Rows<const T>, Wide<T>*);                                               \
  template void weight_backward<T>(CpuContext, int64_t, int64_t, int64_t, const T*, const T*, Wide<T>*, Wide<T>*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
