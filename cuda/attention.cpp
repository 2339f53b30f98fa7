#include "duet/cuda/attention.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>

#include "duet/core/numerics.h"
#include "duet/cuda/context.h"
#include "duet/cuda/cudnn_attention.h"
#include "duet/cuda/cudnn_handle.h"

// Chooses between cuDNN's attention, which uses the tensor cores, and our own kernels, which do everything.
namespace duet {
namespace cuda {

namespace {

// The device's plans; null where cuDNN cannot be used.
CudnnAttention* cudnn_attention(CudaContext which) {
  static std::map<int, std::unique_ptr<CudnnAttention>> all;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const auto it = all.find(which.index);
  if (it != all.end()) return it->second.get();
  const cudnnHandle_t handle = cudnn_handle(which);
  return all.emplace(which.index, handle != nullptr ? std::make_unique<CudnnAttention>(handle) : nullptr)
      .first->second.get();
}

// What cuDNN is asked for; `cudnn` is null unless it can and may. Forward and backward need not decide alike: both keep
// the same logarithms.
struct Choice {
  AttentionProblem problem;
  CudnnAttention* cudnn = nullptr;
};
Choice choose(CudaContext context, const ops::AttentionShape& s, bool masked, float dropout,
              std::initializer_list<const bf16*> tensors) {
  Choice choice{{s.batch, s.heads, s.tokens, s.head_size, masked, numerics().deterministic, true}};
  // Dropout must use the numbers that the CPU uses, and cuDNN has its own; masks with holes it does not know.
  const bool fits =
      dropout == 0 && (!masked || s.padding_at_end) && s.batch > 0 && s.tokens > 1 && s.head_size % 8 == 0;
  // It also wants 16-byte alignment, which views of tensors may lack.
  const bool aligned = std::all_of(tensors.begin(), tensors.end(),
                                   [](const bf16* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
  if (!fits || !aligned) return choice;
  CudnnAttention* cudnn = cudnn_attention(context);
  if (cudnn != nullptr && cudnn->refusal(choice.problem).empty()) choice.cudnn = cudnn;
  return choice;
}

Tensor scratch(CudaContext context, size_t bytes) {
  return Tensor::empty({static_cast<int64_t>(bytes)}, DType::u8, {DeviceKind::cuda, context.index});
}

Tensor lengths_of(CudaContext context, const ops::AttentionShape& s, const uint8_t* key_mask) {
  if (key_mask == nullptr) return {};
  const Tensor lengths = Tensor::empty(Shape{s.batch}, DType::i32, {DeviceKind::cuda, context.index});
  mask_lengths(context, s.batch, s.tokens, key_mask, lengths.data<int32_t>());
  return lengths;
}

}  // namespace
}  // namespace cuda

namespace ops {

Shape attention_saved(CudaContext, AttentionShape s) {
  return {s.batch, s.heads, s.tokens};
}

template <>
void attention_forward<float>(CudaContext context, AttentionShape s, const float* qkv, const uint8_t* key_mask,
                              float dropout, RandomKey random, float* saved, float* y) {
  cuda::own_attention_forward(context, s, qkv, key_mask, dropout, random, saved, y);
}

template <>
void attention_backward<float>(CudaContext context, AttentionShape s, const float* qkv, const uint8_t* key_mask,
                               const float* saved, const float* y, const float* dy, float dropout, RandomKey random,
                               float* dqkv) {
  cuda::own_attention_backward(context, s, qkv, key_mask, saved, y, dy, dropout, random, dqkv);
}

template <>
void attention_forward<bf16>(CudaContext context, AttentionShape s, const bf16* qkv, const uint8_t* key_mask,
                             float dropout, RandomKey random, float* saved, bf16* y) {
  const cuda::Choice choice = cuda::choose(context, s, key_mask != nullptr, dropout, {qkv, y});
  if (choice.cudnn == nullptr) return cuda::own_attention_forward(context, s, qkv, key_mask, dropout, random, saved, y);
  const Tensor lengths = cuda::lengths_of(context, s, key_mask);
  const size_t bytes = choice.cudnn->forward_workspace(choice.problem);
  const Tensor workspace = cuda::scratch(context, bytes);
  const cuda::Timed timed(cuda::context_of(context), "cudnn_attention");
  choice.cudnn->forward(choice.problem, qkv, lengths.defined() ? lengths.data<int32_t>() : nullptr, y, saved,
                        workspace.raw(), bytes);
}

template <>
void attention_backward<bf16>(CudaContext context, AttentionShape s, const bf16* qkv, const uint8_t* key_mask,
                              const float* saved, const bf16* y, const bf16* dy, float dropout, RandomKey random,
                              bf16* dqkv) {
  const cuda::Choice choice = cuda::choose(context, s, key_mask != nullptr, dropout, {qkv, y, dy, dqkv});
  if (choice.cudnn == nullptr)
    return cuda::own_attention_backward(context, s, qkv, key_mask, saved, y, dy, dropout, random, dqkv);
  const Tensor lengths = cuda::lengths_of(context, s, key_mask);
  const size_t bytes = choice.cudnn->backward_workspace(choice.problem);
  const Tensor workspace = cuda::scratch(context, bytes);
  const cuda::Timed timed(cuda::context_of(context), "cudnn_attention_backward");
  choice.cudnn->backward(choice.problem, qkv, lengths.defined() ? lengths.data<int32_t>() : nullptr, y, saved, dy, dqkv,
                         workspace.raw(), bytes);
}

}  // namespace ops
}  // namespace duet
