#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "duet/core/dtype.h"
#include "duet/cuda/cudnn_graph.h"

// Fused scaled-dot-product attention by cuDNN: bf16 storage, f32 softmax and accumulation, scale 1 / sqrt(D), no
// dropout. The probabilities (B, H, T, T) never reach memory; the backward recomputes them from one number per row.
// Only the deterministic backward keeps a tensor of that size, bf16 with T rounded up to 128, in its workspace.
namespace duet::cuda {

struct AttentionProblem {
  int64_t batch, heads, tokens, head_size;
  bool masked;         // with key lengths; every query row is computed
  bool deterministic;  // the backward gives the same bits every time; the forward always does
  bool training;       // there will be a backward
  auto operator<=>(const AttentionProblem&) const = default;
};

// Plans of attention, built once per problem. One object serves one handle, and so one device.
class CudnnAttention {
 public:
  explicit CudnnAttention(cudnnHandle_t handle) : handle_(handle) {}

  // Builds the forward and backward plans, about 0.3 s each because cuDNN compiles kernels for every new shape. That
  // loads kernels and allocates a little device memory, and so must happen outside of stream capture. Returns an empty
  // string, or why cuDNN cannot do this problem here; throws when cuDNN itself is broken.
  const std::string& refusal(const AttentionProblem& problem);

  // All of the following throw where refusal() is not empty. Workspace is device memory, 256-byte aligned, of at least
  // this many bytes; its contents need not survive between calls.
  size_t forward_workspace(const AttentionProblem& problem);
  size_t backward_workspace(const AttentionProblem& problem);
  std::string engines(const AttentionProblem& problem);  // which engines run it, for logs

  // qkv (B, T, 3C) packed as the op has it -> y (B, T, C) and stats (B, H, T) f32, the logarithm of each row's sum of
  // exponentials, which the backward needs. key_lengths (B) is null unless the problem is masked: the number of leading
  // keys that are attended to, 1 to T. A sample without any key has no defined result here; the op's contract, an even
  // share, must come from other kernels. All pointers are to device memory, 16-byte aligned. Runs on the handle's
  // stream and may be captured in a CUDA graph.
  void forward(const AttentionProblem& problem, const bf16* qkv, const int32_t* key_lengths, bf16* y, float* stats,
               void* workspace, size_t workspace_bytes);
  // dqkv (B, T, 3C) is overwritten; key and value gradients of padding are zero.
  void backward(const AttentionProblem& problem, const bf16* qkv, const int32_t* key_lengths, const bf16* y,
                const float* stats, const bf16* dy, bf16* dqkv, void* workspace, size_t workspace_bytes);

 private:
  struct Free {
    void operator()(int32_t* memory) const;
  };
  struct Plans {
    std::string refusal;
    std::unique_ptr<CudnnPlan> forward, backward;
    std::unique_ptr<int32_t, Free> full_lengths;  // device memory: (B) times T, for plans with lengths
  };
  const Plans& plans(const AttentionProblem& problem);
  const Plans& usable(const AttentionProblem& problem);

  cudnnHandle_t handle_;
  std::mutex mutex_;
  std::map<AttentionProblem, Plans> plans_;
};

// What cuDNN says for a device that need not be here: it chooses engines and, if `compile`, makes their kernels, about
// 0.3 s each; nothing runs.
struct AttentionSupport {
  std::string refusal;                                    // empty when both directions have an engine
  std::string forward, backward;                          // the first engine of each
  int64_t forward_workspace = 0, backward_workspace = 0;  // bytes
};
AttentionSupport check_on_described_device(const AttentionProblem& problem, const std::string& device_json,
                                           bool compile = false);

}  // namespace duet::cuda
