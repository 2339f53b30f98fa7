#pragma once

#include "duet/core/device.h"
#include "duet/core/tensor.h"

namespace duet::ops {

// A matrix operand: `data` with `stride` elements from one stored row to the next, used transposed or not.
template <class T>
struct Matrix {
  T* data;
  int64_t stride;
  bool transposed = false;
};

// c (m, n) = alpha a (m, k) b (k, n) + beta c, row-major. f32 runs in oneDNN, f64 in Eigen. c must not overlap a or b.
// With beta 0, c may hold anything, NaN included.
template <class T>
void gemm(CpuContext, int64_t m, int64_t n, int64_t k, T alpha, Matrix<const T> a, Matrix<const T> b, T beta,
          Matrix<T> c);

}  // namespace duet::ops
