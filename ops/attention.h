#pragma once

#include "duet/autograd/variable.h"
#include "duet/core/philox.h"

namespace duet::ops {

struct AttentionOptions {
  int64_t heads = 1;
  Tensor key_mask;     // (B, T) u8, 1 = attend, 0 = padding; undefined = attend to all
  double dropout = 0;  // on the probabilities, 0 when not training; in [0, 1)
  RandomKey random;
};

// Multi-head scaled-dot-product attention on packed projections: qkv (B, T, 3C) holds query, key and value of C each,
// heads contiguous inside -> (B, T, C). softmax(q k^T / sqrt(C / heads)) v, Vaswani et al. 2017. A row whose keys are
// all padding attends uniformly, as the additive-minimum mask of the Hugging Face models does, never NaN; its output
// does not depend on query and key, so they get no gradient from it.
Variable attention(const Variable& qkv, const AttentionOptions& options);

struct AttentionShape {
  int64_t batch, heads, tokens, head_size;
};
// probabilities (B, H, T, T) are after softmax and before dropout.
template <class T>
void attention_forward(CpuContext, AttentionShape s, const T* qkv, const uint8_t* key_mask, float dropout,
                       RandomKey random, T* probabilities, T* y);
template <class T>
void attention_backward(CpuContext, AttentionShape s, const T* qkv, const uint8_t* key_mask, const T* probabilities,
                        const T* dy, float dropout, RandomKey random, T* dqkv);

}  // namespace duet::ops
