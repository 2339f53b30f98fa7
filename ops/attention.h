#pragma once

#include "duet/autograd/variable.h"
#include "duet/core/philox.h"

namespace duet::ops {

struct AttentionOptions {
  int64_t heads = 1;
  Tensor key_mask;              // (B, T) u8, 1 = attend, 0 = padding; undefined = attend to all
  bool padding_at_end = false;  // every row of the mask is some ones, at least one, and then zeros: faster on a GPU
  double dropout = 0;           // on the probabilities, 0 when not training; in [0, 1)
  RandomKey random;
  // Sequences of different lengths one after the other, without padding and without a mask, on the CPU only: sequence b
  // has rows starts[b] up to starts[b + 1], (B + 1) int64. Dropout uses the numbers that it would use if each were
  // padded to `longest` tokens.
  Tensor starts;
  int64_t longest = 0;
};

// Multi-head scaled-dot-product attention on packed projections: qkv (B, T, 3C) holds query, key and value of C each,
// heads contiguous inside -> (B, T, C). softmax(q k^T / sqrt(C / heads)) v, Vaswani et al. 2017. A row whose keys are
// all padding attends uniformly, as the additive-minimum mask of the Hugging Face models does, never NaN; its output
// does not depend on query and key, so they get no gradient from it. With starts, qkv (N, 3C) -> (N, C).
Variable attention(const Variable& qkv, const AttentionOptions& options);

// attention(linear(x, weight, bias), options) of each sequence's first token alone, the class token, without computing
// what other tokens look for: x (B, T, D), weight (3C, D), bias (3C) or undefined -> (B, C). With starts, x (N, D), of
// which rows behind the sequences have no use, and every sequence has a token. On the CPU. Dropout's random numbers are
// those of attention.
Variable class_attention(const Variable& x, const Variable& weight, const Variable& bias,
                         const AttentionOptions& options);

struct AttentionShape {
  int64_t batch, heads, tokens, head_size;
  bool padding_at_end = false;
  const int64_t* starts = nullptr;  // of sequences without padding, each of at most `tokens`; null = of `tokens` each
  bool first_query = false;         // queries, and outputs, are of each sequence's first token alone: one row of each

  int64_t row(int64_t sample) const { return starts ? starts[sample] : sample * tokens; }  // where a sample begins
  int64_t query_row(int64_t sample) const { return first_query ? sample : row(sample); }
  int64_t most_queries() const { return first_query ? 1 : tokens; }  // of a sequence
};
// What the forward pass keeps for the backward pass besides its inputs and y: the logarithm of each row's sum of
// exponentials (B, H, T), (H N) of sequences without padding, (B, H) of first queries.
Shape attention_saved(CpuContext, AttentionShape s);
Shape attention_saved(CudaContext, AttentionShape s);
template <class T>
void attention_forward(CpuContext, AttentionShape s, const T* qkv, const uint8_t* key_mask, float dropout,
                       RandomKey random, Wide<T>* saved, T* y);
template <class T>
void attention_forward(CudaContext, AttentionShape s, const T* qkv, const uint8_t* key_mask, float dropout,
                       RandomKey random, Wide<T>* saved, T* y);
template <class T>
void attention_backward(CpuContext, AttentionShape s, const T* qkv, const uint8_t* key_mask, const Wide<T>* saved,
                        const T* y, const T* dy, float dropout, RandomKey random, T* dqkv);
template <class T>
void attention_backward(CudaContext, AttentionShape s, const T* qkv, const uint8_t* key_mask, const Wide<T>* saved,
                        const T* y, const T* dy, float dropout, RandomKey random, T* dqkv);

// Queries q (B, C) of first tokens, and keys and values kv (B, T, 2C), or (N, 2C) with starts, of all; the shape has
// first_query.
template <class T>
void class_attention_forward(CpuContext, AttentionShape s, const T* q, const T* kv, const uint8_t* key_mask,
                             float dropout, RandomKey random, Wide<T>* saved, T* y);
template <class T>
void class_attention_backward(CpuContext, AttentionShape s, const T* q, const T* kv, const uint8_t* key_mask,
                              const Wide<T>* saved, const T* y, const T* dy, float dropout, RandomKey random, T* dq,
                              T* dkv);

}  // namespace duet::ops
