#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// y[indices[i]] = x[i], and zero in the rows that no index names: x (N, D), indices (N) int32 or int64 -> (count, D).
// Where an index repeats, its rows are added up. Throws Error naming the first index outside [0, count). The reverse of
// gather_rows; kernels are those of embedding.
Variable scatter_rows(const Variable& x, const Tensor& indices, int64_t count);

}  // namespace duet::ops
