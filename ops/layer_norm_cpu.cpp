#include <cmath>
#include <utility>

#include "duet/ops/column_sum.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/wide_row.h"

namespace duet::ops {

template <class T>
void layer_norm_forward(CpuContext, Rows<const T> x, const T* residual, T* sum, const Wide<T>* weight,
                        const Wide<T>* bias, Wide<T> eps, Rows<T> y, Wide<T>* mean, Wide<T>* rstd) {
  using W = Wide<T>;
  const int64_t width = x.width;
  parallel_for(x.count, 1 + (1 << 13) / width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      Widened<T> in{x.row(r)};
      if (residual != nullptr) {
        T* s = sum + r * width;
        for (int64_t c = 0; c < width; ++c) s[c] = static_cast<T>(in[c] + static_cast<W>(residual[r * width + c]));
        in = {s};  // what is stored is what counts
      }
      // Two passes: subtracting the mean first keeps the variance exact for large offsets.
      W total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t c = 0; c < width; ++c) total += in[c];
      const W m = total / static_cast<W>(width);
#pragma omp simd reduction(+ : squares)
      for (int64_t c = 0; c < width; ++c) squares += (in[c] - m) * (in[c] - m);
      const W rs = W(1) / std::sqrt(squares / static_cast<W>(width) + eps);
      T* out = y.row(r);
      for (int64_t c = 0; c < width; ++c) out[c] = static_cast<T>((in[c] - m) * rs * weight[c] + bias[c]);
      mean[r] = m;
      rstd[r] = rs;
    }
  });
}

namespace {

// Adds a row's part of the gradients of weight and bias to sums, which hold one after the other.
template <class T>
void add_parameter_gradients(Widened<T> in, Widened<T> g, Wide<T> mean, Wide<T> rstd, int64_t width, Wide<T>* sums) {
  for (int64_t c = 0; c < width; ++c) {
    sums[c] += g[c] * (in[c] - mean) * rstd;
    sums[width + c] += g[c];
  }
}

// Of g weight and of g weight n, see layer_norm_backward. Inside of a lambda g++ 12 does not vectorise the sums.
template <class T>
std::pair<Wide<T>, Wide<T>> gradient_means(Widened<T> in, Widened<T> g, const Wide<T>* weight, Wide<T> mean,
                                           Wide<T> rstd, int64_t width) {
  Wide<T> sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
  for (int64_t c = 0; c < width; ++c) {
    const Wide<T> gw = g[c] * weight[c];
    sum_g += gw;
    sum_gn += gw * (in[c] - mean) * rstd;
  }
  return {sum_g / static_cast<Wide<T>>(width), sum_gn / static_cast<Wide<T>>(width)};
}

// Calls f(row, sums) for every row and writes the sums to dweight and dbias.
template <class W, class F>
void with_parameter_gradients(int64_t count, int64_t width, W* dweight, W* dbias, F&& f) {
  const Tensor sums = Tensor::empty({2, width}, dtype_of<W>());
  sum_over_rows<W>(count, 2 * width, sums.data<W>(), f);
  std::copy_n(sums.data<W>(), width, dweight);
  std::copy_n(sums.data<W>() + width, width, dbias);
}

}  // namespace

template <class T>
void layer_norm_parameter_backward(CpuContext, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd,
                                   Rows<const T> dy, Wide<T>* dweight, Wide<T>* dbias) {
  with_parameter_gradients(x.count, x.width, dweight, dbias, [&](int64_t r, Wide<T>* sums) {
    add_parameter_gradients<T>({x.row(r)}, {dy.row(r)}, mean[r], rstd[r], x.width, sums);
  });
}

// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)).
template <class T>
void layer_norm_backward(CpuContext, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd, const Wide<T>* weight,
                         Rows<const T> dy, const T* extra, Rows<T> dx, Wide<T>* dweight, Wide<T>* dbias) {
  using W = Wide<T>;
  const int64_t width = x.width;
  const auto backward_row = [&](int64_t r, W* sums) {
    const Widened<T> in{x.row(r)}, g{dy.row(r)};
    const W m = mean[r], rs = rstd[r];
    const std::pair<W, W> means = gradient_means<T>(in, g, weight, m, rs, width);
    const W mean_g = means.first, mean_gn = means.second;
    T* out = dx.row(r);
    const T* added = extra != nullptr ? extra + r * width : nullptr;
    const auto gradient = [&](int64_t c) { return rs * (g[c] * weight[c] - mean_g - (in[c] - m) * rs * mean_gn); };
    if (added != nullptr)
      for (int64_t c = 0; c < width; ++c) out[c] = static_cast<T>(gradient(c) + static_cast<W>(added[c]));
    else
      for (int64_t c = 0; c < width; ++c) out[c] = static_cast<T>(gradient(c));
    if (sums != nullptr) add_parameter_gradients<T>(in, g, m, rs, width, sums);
  };
  if (dweight != nullptr) return with_parameter_gradients(x.count, width, dweight, dbias, backward_row);
  parallel_for(x.count, 1 + (1 << 13) / width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) backward_row(r, nullptr);
  });
}

#define DUET_INSTANTIATE(T)                                                                                       \
  template void layer_norm_forward<T>(CpuContext, Rows<const T>, const T*, T*, const Wide<T>*, const Wide<T>*,    \
                                      Wide<T>, Rows<T>, Wide<T>*, Wide<T>*);                                      \
  template void layer_norm_backward<T>(CpuContext, Rows<const T>, const Wide<T>*, const Wide<T>*, const Wide<T>*, \
                                       Rows<const T>, const T*, Rows<T>, Wide<T>*, Wide<T>*);                     \
  template void layer_norm_parameter_backward<T>(CpuContext, Rows<const T>, const Wide<T>*, const Wide<T>*,       \
                                                 Rows<const T>, Wide<T>*, Wide<T>*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
