#pragma once

#include "duet/ops/gemm.h"

namespace duet::cuda {

// z (m, out) = x (m, in) w^T + bias, w (out, in), the bias added while the product is written. False when cuBLASLt has
// no such kernel for these sizes, or bias is null: z is then the product alone.
template <class T>
bool gemm_add_bias(CudaContext context, int64_t m, int64_t out, int64_t in, const T* x, const T* w, const T* bias,
                   T* z);

// z as above and y (m, out) = gelu_tanh(z) in the same kernel, where cuBLASLt has one; otherwise false, and nothing
// done. Its GELU is the tanh formula, computed from the unrounded z. bias must not be null.
template <class T>
bool gemm_add_bias_gelu(CudaContext context, int64_t m, int64_t out, int64_t in, const T* x, const T* w, const T* bias,
                        T* z, T* y);

// dw (out, in) = dz^T x of dz (m, out) and x (m, in), and dbias (out), the sum of dz over rows, taken from what the
// product reads anyway. False, and nothing done, where cuBLASLt has no such kernel.
template <class T>
bool gemm_sum_bias(CudaContext context, int64_t m, int64_t out, int64_t in, const T* dz, const T* x, Wide<T>* dw,
                   Wide<T>* dbias);

}  // namespace duet::cuda
