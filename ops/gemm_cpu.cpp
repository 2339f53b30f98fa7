#include "duet/ops/gemm.h"

#include <oneapi/dnnl/dnnl.h>
#include <Eigen/Core>

#include "duet/core/parallel.h"
#include "duet/ops/packed_gemm.h"

namespace duet::ops {
namespace {

// Empty products still have to scale c.
template <class T>
void scale_rows(int64_t m, int64_t n, T beta, Matrix<T> c) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c.data[i * c.stride + j] = beta == 0 ? T(0) : beta * c.data[i * c.stride + j];
}

}  // namespace

template <>
void gemm<float>(CpuContext, int64_t m, int64_t n, int64_t k, float alpha, Matrix<const float> a, Matrix<const float> b,
                 float beta, Matrix<float> c) {
  if (m == 0 || n == 0) return;
  if (k == 0) return scale_rows(m, n, beta, c);
  if (const auto* packed = detail::packed_gemm_for(m, n, k, a, b); packed && alpha == 1 && (beta == 0 || beta == 1))
    return detail::packed_gemm(*packed, m, n, k, a, b, nullptr, beta == 1, c);
  // oneDNN's own division of the work among threads packs operands together behind barriers and loses up to 20 % for
  // long k. Here each thread has a product of its own, over some of the columns where b has to be transposed on the
  // way, which costs the most, unless they are too few for oneDNN's blocks; and else over some of the rows.
  const auto part = [&](int64_t rows, int64_t columns, const float* left, const float* right, float* out) {
    const dnnl_status_t status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', rows, columns, k, alpha,
                                            left, a.stride, right, b.stride, beta, out, c.stride);
    check(status == dnnl_success, "gemm", "oneDNN failed with status ", static_cast<int>(status), " for (", rows, ", ",
          k, ") by (", k, ", ", columns, ")");
  };
  constexpr int64_t least_work = 1 << 20, vector = 16, few_rows = 96, many_columns = 256;
  // Where oneDNN does not have to transpose, smaller parts cost it nothing at the sizes measured.
  const int64_t per_thread = a.transposed || b.transposed ? 1 : 4;
  if (b.transposed && n >= (m < few_rows ? 4 * vector : many_columns))
    parallel_for(
        n / vector, std::max<int64_t>(2, least_work / vector / (m * k)),
        [&](int64_t begin, int64_t end) {
          const int64_t first = begin * vector, last = end == n / vector ? n : end * vector;
          part(m, last - first, a.data, b.data + first * b.stride, c.data + first);
        },
        1);
  else
    parallel_for(
        m, std::max<int64_t>(48, least_work / (n * k)),
        [&](int64_t begin, int64_t end) {
          part(end - begin, n, a.data + begin * (a.transposed ? 1 : a.stride), b.data, c.data + begin * c.stride);
        },
        per_thread);
}

bool gemm_with_bias(CpuContext context, int64_t m, int64_t n, int64_t k, Matrix<const float> a, Matrix<const float> b,
                    const float* bias, Matrix<float> c) {
  const auto* packed = detail::packed_gemm_for(m, n, k, a, b);
  if (packed == nullptr) {
    gemm<float>(context, m, n, k, 1, a, b, 0, c);
    return bias == nullptr;
  }
  detail::packed_gemm(*packed, m, n, k, a, b, bias, false, c);
  return true;
}

template <>
void gemm<double>(CpuContext, int64_t m, int64_t n, int64_t k, double alpha, Matrix<const double> a,
                  Matrix<const double> b, double beta, Matrix<double> c) {
  if (m == 0 || n == 0) return;
  if (k == 0) return scale_rows(m, n, beta, c);
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using View = Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>;
  parallel_for(
      m, std::max<int64_t>(8, (1 << 18) / (n * k)),
      [&](int64_t begin, int64_t end) {
        const int64_t rows = end - begin;
        const View A(a.data + begin * (a.transposed ? 1 : a.stride), a.transposed ? k : rows, a.transposed ? rows : k,
                     Eigen::OuterStride<>(a.stride));
        const View B(b.data, b.transposed ? n : k, b.transposed ? k : n, Eigen::OuterStride<>(b.stride));
        Eigen::Map<RowMajor, 0, Eigen::OuterStride<>> C(c.data + begin * c.stride, rows, n,
                                                        Eigen::OuterStride<>(c.stride));
        if (beta == 0)
          C.setZero();
        else if (beta != 1)
          C *= beta;
        if (a.transposed && b.transposed)
          C.noalias() += alpha * (A.transpose() * B.transpose());
        else if (a.transposed)
          C.noalias() += alpha * (A.transpose() * B);
        else if (b.transposed)
          C.noalias() += alpha * (A * B.transpose());
        else
          C.noalias() += alpha * (A * B);
      },
      1);
}

template <class T>
void gemm_batched(CpuContext context, int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, bool transpose_a,
                  const T* b, bool transpose_b, T* c) {
  const auto product = [&](int64_t i) {
    gemm<T>(context, m, n, k, 1, {a + i * m * k, transpose_a ? m : k, transpose_a},
            {b + i * k * n, transpose_b ? k : n, transpose_b}, 0, {c + i * m * n, n});
  };
  // Many small products side by side; few large ones with all threads in each.
  const int64_t work = std::max<int64_t>(1, m * n * k);
  parallel_for(batch, batch >= 2 * threads() ? std::max<int64_t>(1, (1 << 17) / work) : batch,
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) product(i);
               });
}

#define DUET_INSTANTIATE(T) \
  template void gemm_batched<T>(CpuContext, int64_t, int64_t, int64_t, int64_t, const T*, bool, const T*, bool, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)

}  // namespace duet::ops
