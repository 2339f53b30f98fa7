#pragma once

#include <compare>
#include <span>
#include <string>
#include <utility>

#include "duet/core/device.h"
#include "duet/core/dtype.h"
#include "duet/cuda/cudnn_graph.h"

// Layer norm by cuDNN instead of our own kernels: off unless the environment has DUET_CUDNN_LAYER_NORM=1. cuDNN fuses
// neither the residual before it nor the gradient that meets its own, so that it moves more bytes (docs/cuda.md); which
// is faster only a GPU can tell.
namespace duet::cuda {

// What a plan is made for: x, y, dx (rows, width) f32 or bf16; all else f32: scale, bias and their gradients (width),
// mean and rstd (rows).
struct LayerNormProblem {
  bool backward;
  DType dtype;
  int64_t rows, width;
  float epsilon;  // 0 for the backward, which has rstd
  bool deterministic;
  auto operator<=>(const LayerNormProblem&) const = default;
};

// Ids of the tensors a caller gives.
enum LayerNormTensor : TensorId {
  norm_x_id = 1,
  norm_scale_id,
  norm_mean_id,
  norm_rstd_id,
  norm_bias_id,  // forward
  norm_y_id,
  norm_dy_id,  // backward
  norm_dx_id,
  norm_dscale_id,
  norm_dbias_id
};
// Still to be finalized.
CudnnGraph layer_norm_graph(const LayerNormProblem& problem);

// Whether cuDNN is asked for and does the problem on this device; what it cannot do is said once. The first call for a
// problem compiles kernels and must happen outside of stream capture.
bool cudnn_does(CudaContext which, const LayerNormProblem& problem);
// Puts it on the stream; throws where cudnn_does is false. The tensors are in device memory, 16-byte aligned.
void run_cudnn(CudaContext which, const LayerNormProblem& problem,
               std::span<const std::pair<TensorId, const void*>> tensors);

// What cuDNN says for a device that need not be here; if `compile` it also makes the kernels. Nothing runs.
struct LayerNormSupport {
  std::string refusal, engine;  // one of them is empty
  int64_t workspace = 0;        // bytes
};
LayerNormSupport check_on_described_device(const LayerNormProblem& problem, const std::string& device_json,
                                           bool compile = false);

}  // namespace duet::cuda
