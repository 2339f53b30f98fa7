#include <cmath>
#include <vector>

#include "duet/core/parallel.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/vector_math.h"
#include "duet/ops/wide_row.h"

namespace duet::ops {

template <class T>
void cross_entropy_kernel(CpuContext, Rows<const T> logits, const int64_t* labels, const Wide<T>* weights,
                          double smoothing, int64_t ignore_index, Rows<T> dlogits, Wide<T>* result) {
  using W = Wide<T>;
  const VectorMath<T>& math = vector_math<T>();
  const int64_t count = logits.count, classes = logits.width;
  const auto weight = [&](int64_t k) { return weights ? static_cast<double>(weights[k]) : 1.0; };
  double weight_total = 0;  // sum over all classes
  for (int64_t k = 0; k < classes; ++k) weight_total += weight(k);
  double divisor = 0;
  for (int64_t i = 0; i < count; ++i)
    if (labels[i] != ignore_index) divisor += weight(labels[i]);
  std::vector<double> losses(static_cast<size_t>(count), 0.0);
  const double spread = smoothing / static_cast<double>(std::max<int64_t>(classes, 1));
  parallel_for(count, 1 + (1 << 12) / std::max<int64_t>(classes, 1), [&](int64_t begin, int64_t end) {
    WideRow<T> row(classes);
    for (int64_t i = begin; i < end; ++i) {
      const Widened<T> x{logits.row(i)};
      W* g = row.of(dlogits.row(i));
      const int64_t y = labels[i];
      if (y == ignore_index || divisor == 0) {
        std::fill_n(dlogits.row(i), classes, T(0));
        continue;
      }
      const W top = math.largest(logits.row(i), classes);
      const double sum = math.exponentials(logits.row(i), g, classes, 1, top);
      const double log_sum = std::log(sum) + static_cast<double>(top);
      const double target = (1 - smoothing) * weight(y) / divisor;
      double loss = target * (log_sum - static_cast<double>(x[y]));
      // d/dx_k of sum_j c_j (log_sum - x_j) is (sum_j c_j) p_k - c_k.
      const W mass = static_cast<W>((target + spread * weight_total / divisor) / sum);
      for (int64_t k = 0; k < classes; ++k) g[k] *= mass;
      g[y] -= static_cast<W>(target);
      if (spread > 0) {
        for (int64_t k = 0; k < classes; ++k) {
          const double c = spread * weight(k) / divisor;
          loss += c * (log_sum - static_cast<double>(x[k]));
          g[k] -= static_cast<W>(c);
        }
      }
      row.store(dlogits.row(i));
      losses[static_cast<size_t>(i)] = loss;
    }
  });
  double total = 0;
  for (const double loss : losses) total += loss;
  *result = static_cast<W>(total);
}

template <class T>
void scale_by_element(CpuContext, const T* x, const Wide<T>* factor, T* y, int64_t n) {
  parallel_for(n, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = static_cast<T>(*factor * static_cast<Wide<T>>(x[i]));
  });
}

#define DUET_INSTANTIATE(T)                                                                                         \
  template void cross_entropy_kernel<T>(CpuContext, Rows<const T>, const int64_t*, const Wide<T>*, double, int64_t, \
                                        Rows<T>, Wide<T>*);                                                         \
  template void scale_by_element<T>(CpuContext, const T*, const Wide<T>*, T*, int64_t);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
