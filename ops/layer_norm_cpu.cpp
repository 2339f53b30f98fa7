#include <cmath>

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

template <class T>
void layer_norm_parameter_backward(CpuContext, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd,
                                   Rows<const T> dy, Wide<T>* dweight, Wide<T>* dbias) {
  using W = Wide<T>;
  std::fill_n(dweight, x.width, W(0));
  std::fill_n(dbias, x.width, W(0));
  for_column_blocks(x.count, x.width, [&](int64_t r, int64_t begin, int64_t end) {
    const Widened<T> in{x.row(r)}, g{dy.row(r)};
    const W m = mean[r], rs = rstd[r];
    for (int64_t c = begin; c < end; ++c) {
      dweight[c] += g[c] * (in[c] - m) * rs;
      dbias[c] += g[c];
    }
  });
}

// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)).
template <class T>
void layer_norm_backward(CpuContext context, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd,
                         const Wide<T>* weight, Rows<const T> dy, const T* extra, Rows<T> dx, Wide<T>* dweight,
                         Wide<T>* dbias) {
  using W = Wide<T>;
  if (dweight != nullptr) layer_norm_parameter_backward<T>(context, x, mean, rstd, dy, dweight, dbias);
  const int64_t width = x.width;
  parallel_for(x.count, 1 + (1 << 13) / width, [&](int64_t begin, int64_t end) {
    WideRow<T> row(width);
    for (int64_t r = begin; r < end; ++r) {
      const Widened<T> in{x.row(r)}, g{dy.row(r)};
      const W m = mean[r], rs = rstd[r];
      W sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
      for (int64_t c = 0; c < width; ++c) {
        const W gw = g[c] * weight[c];
        sum_g += gw;
        sum_gn += gw * (in[c] - m) * rs;
      }
      sum_g /= static_cast<W>(width);
      sum_gn /= static_cast<W>(width);
      W* out = row.of(dx.row(r));
      for (int64_t c = 0; c < width; ++c) out[c] = rs * (g[c] * weight[c] - sum_g - (in[c] - m) * rs * sum_gn);
      if (extra != nullptr)
        for (int64_t c = 0; c < width; ++c) out[c] += static_cast<W>(extra[r * width + c]);
      row.store(dx.row(r));
    }
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
