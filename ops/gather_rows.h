#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// y[i] = x[indices[i]]: x (N, D), indices (M) int32 or int64 -> (M, D). An index may repeat. Throws Error naming the
// first index outside [0, N). Kernels are those of embedding.
Variable gather_rows(const Variable& x, const Tensor& indices);

}  // namespace duet::ops
