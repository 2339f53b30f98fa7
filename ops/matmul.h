#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Batched matrix product. a (..., M, K) and b (..., K, N) with equal leading dimensions -> (..., M, N). With
// transpose_a the last two dimensions of a are swapped, a (..., K, M); likewise b (..., N, K).
Variable matmul(const Variable& a, const Variable& b, bool transpose_a = false, bool transpose_b = false);

}  // namespace duet::ops
