#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Mean over the tokens that are not padding: x (B, T, D), mask (B, T) u8, 1 = token, or undefined = all -> (B, D). A
// sample without any token gets the mean of all.
Variable mean_tokens(const Variable& x, const Tensor& mask);

// weights[b][t] = mask[b][t] / tokens of sample b. mask may be null.
template <class T>
void token_weights(CpuContext, int64_t batch, int64_t tokens, const uint8_t* mask, T* weights);
template <class T>
void token_weights(CudaContext, int64_t batch, int64_t tokens, const uint8_t* mask, T* weights);

}  // namespace duet::ops
