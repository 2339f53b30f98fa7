#pragma once

#include "duet/ops/gemm.h"

namespace duet::cuda {

// z (m, out) = x (m, in) w^T + bias, w (out, in), the bias added while the product is written. False when cuBLASLt has
// no such kernel for these sizes, or bias is null: z is then the product alone.
template <class T>
bool gemm_add_bias(CudaContext context, int64_t m, int64_t out, int64_t in, const T* x, const T* w, const T* bias,
                   T* z);

}  // namespace duet::cuda
