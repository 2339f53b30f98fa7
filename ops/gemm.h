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

// c (m, n) = alpha a (m, k) b (k, n) + beta c, row-major. f32 and bf16 run in oneDNN, but for large products: in
// f32 with AVX2 or AVX-512, in bf16 with AVX-512 where bf16's own instructions are slow (packed_gemm.h; not with
// DUET_CPU_PACKED=0 in the environment, read once); f64 runs in Eigen, on the GPU all in cuBLASLt. c must not overlap a
// or b. With beta 0, c may hold anything, NaN included. Out is T or Wide<T>.
template <class T, class Out = T>
void gemm(CpuContext, int64_t m, int64_t n, int64_t k, Wide<T> alpha, Matrix<const T> a, Matrix<const T> b,
          Wide<T> beta, Matrix<Out> c);
template <class T, class Out = T>
void gemm(CudaContext, int64_t m, int64_t n, int64_t k, Wide<T> alpha, Matrix<const T> a, Matrix<const T> b,
          Wide<T> beta, Matrix<Out> c);

// c = a b + bias, rounded once; bias has n elements or is null.
void gemm_add_bias(CpuContext, int64_t m, int64_t n, int64_t k, Matrix<const bf16> a, Matrix<const bf16> b,
                   const float* bias, Matrix<bf16> c);

// c = a b, and + bias where that needs no pass over c of its own. Returns whether nothing is left to add.
bool gemm_with_bias(CpuContext, int64_t m, int64_t n, int64_t k, Matrix<const float> a, Matrix<const float> b,
                    const float* bias, Matrix<float> c);

// A function of single elements, over spans: of x to y, which may be x.
template <class T>
using SpanFunction = void (*)(const T* x, T* y, int64_t n);
// c = f(a) b + bias, for a that is not transposed, with f computed while parts of a are copied, so that f(a) is never
// in memory as a whole. bias may be null. Returns false, having done nothing, where a product of this size copies
// nothing.
template <class T>
bool gemm_of(CpuContext, int64_t m, int64_t n, int64_t k, SpanFunction<T> f, Matrix<const T> a, Matrix<const T> b,
             const Wide<T>* bias, Matrix<T> c);

// c[i] = op(a[i]) op(b[i]) for `batch` matrices stored one after the other.
template <class T>
void gemm_batched(CpuContext, int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, bool transpose_a, const T* b,
                  bool transpose_b, T* c);
template <class T>
void gemm_batched(CudaContext, int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, bool transpose_a, const T* b,
                  bool transpose_b, T* c);

}  // namespace duet::ops
