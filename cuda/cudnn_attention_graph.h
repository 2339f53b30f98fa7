#pragma once

#include "duet/cuda/cudnn_attention.h"

// Attention as cuDNN operation graphs, in the pattern its fused kernels are found by.
namespace duet::cuda {

// Ids of the tensors a caller gives.
enum AttentionTensor : TensorId {
  query_id = 1,
  key_id,
  value_id,
  output_id,
  stats_id,
  output_gradient_id,
  query_gradient_id,
  key_gradient_id,
  value_gradient_id,
  query_length_id,
  key_length_id
};

// Why no graph is made for the problem, before cuDNN is asked; empty if one is.
std::string unsuitable(const AttentionProblem& problem);

// Whether the backward's graph has lengths: those of a masked problem, or T throughout. Without them, cuDNN up to 9.30
// on compute capability 9.0 leaves the ragged end of a tile of 64 or 128 tokens unmasked; where all scores of a row lie
// below -88 its exponential then overflows and gradients become NaN (pytorch issue 196678, cudnn-frontend issue 1072).
bool backward_has_lengths(const AttentionProblem& problem);

// The graphs still have to be finalized.
CudnnGraph attention_forward_graph(const AttentionProblem& problem);
CudnnGraph attention_backward_graph(const AttentionProblem& problem);

}  // namespace duet::cuda
