#include "duet/ops/attention_rows.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "duet/ops/tile_product.h"
#include "duet/ops/vector_math.h"

namespace duet::ops {
namespace {

void softmax(double* x, int64_t rows, int64_t n, double scale, const Dropped<double>& dropped, double* tops,
             double* sums) {
  for (int64_t i = 0; i < rows; ++i) {
    double* const row = x + i * tile_stride;
    tops[i] = std::max(tops[i], vector_math<double>().largest(row, n) * scale);
    sums[i] = vector_math<double>().exponentials(row, row, n, scale, tops[i]);
    if (const uint32_t* numbers = dropped.numbers)
      for (int64_t j = 0; j < n; ++j)
        row[j] = numbers[i * dropped.stride + j] >= dropped.threshold ? row[j] * dropped.keep : 0;
  }
}

void softmax_backward(double* p, double* d, int64_t rows, int64_t n, double scale, const Dropped<double>& dropped,
                      const double* log_sums, const double* dots) {
  for (int64_t i = 0; i < rows; ++i) {
    double* const row = p + i * tile_stride;
    vector_math<double>().exponentials(row, row, n, scale, log_sums[i]);
    for (int64_t j = 0; j < n; ++j) {
      const bool drops = dropped.numbers && dropped.numbers[i * dropped.stride + j] < dropped.threshold;
      const double kept = drops ? 0 : dropped.keep;
      if (d != nullptr) {
        double& g = d[i * tile_stride + j];
        g = row[j] * ((drops ? 0 : g * kept) - dots[i]) * scale;
      }
      row[j] *= kept;
    }
  }
}

const AttentionRows<double> double_rows{softmax, softmax_backward};

}  // namespace

template <class W>
const AttentionRows<W>& attention_rows([[maybe_unused]] CpuInstructions instructions) {
  if constexpr (std::is_same_v<W, double>) {
    return double_rows;
  } else {
#ifdef DUET_X86_KERNELS
    if (instructions == CpuInstructions::avx512) return detail::avx512_attention_rows;
    if (instructions == CpuInstructions::avx2) return detail::avx2_attention_rows;
#endif
    return detail::baseline_attention_rows;
  }
}

template <class W>
const AttentionRows<W>& attention_rows() {
  static const AttentionRows<W>& chosen = attention_rows<W>(cpu_instructions());
  return chosen;
}

template const AttentionRows<float>& attention_rows<float>(CpuInstructions);
template const AttentionRows<float>& attention_rows<float>();
template const AttentionRows<double>& attention_rows<double>(CpuInstructions);
template const AttentionRows<double>& attention_rows<double>();

}  // namespace duet::ops
