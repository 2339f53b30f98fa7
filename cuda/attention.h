#pragma once

#include "duet/core/philox.h"
#include "duet/ops/attention.h"

namespace duet::cuda {

// Our own kernels, for every shape, mask and dropout that ops::attention allows with heads of at most 128. log_sums is
// (B, H, T).
template <class T>
void own_attention_forward(CudaContext context, ops::AttentionShape s, const T* qkv, const uint8_t* key_mask,
                           float dropout, RandomKey random, float* log_sums, T* y);
template <class T>
void own_attention_backward(CudaContext context, ops::AttentionShape s, const T* qkv, const uint8_t* key_mask,
                            const float* log_sums, const T* y, const T* dy, float dropout, RandomKey random, T* dqkv);

// The number of ones in each row of a mask (B, T) whose rows are ones followed by zeros; a row that is not is reported.
void mask_lengths(CudaContext context, int64_t batch, int64_t tokens, const uint8_t* mask, int32_t* lengths);

}  // namespace duet::cuda
