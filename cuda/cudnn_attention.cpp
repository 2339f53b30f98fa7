#include "duet/cuda/cudnn_attention.h"

#include <cuda_runtime_api.h>

#include "duet/cuda/cudnn_attention_graph.h"

namespace duet::cuda {
namespace {

using Tensors = std::vector<std::pair<TensorId, const void*>>;

std::string describe(const AttentionProblem& p) {
  return text("attention bfloat16 (batch ", p.batch, ", heads ", p.heads, ", tokens ", p.tokens, ", head size ",
              p.head_size, p.masked ? ", masked" : "", p.deterministic ? ", deterministic)" : ")");
}

void check_version() {
  // 9.16 as in cudnn_attention_graph.cpp: an older library than the headers would compute wrong gradients.
  check(cudnnGetVersion() >= 91600, "cudnn", "the cuDNN library loaded is ", cudnnGetVersion(),
        ", but attention needs 9.16 or later; install a newer libcudnn9 or put it first on the library path");
}

void check_cuda(cudaError_t error, std::string_view what) {
  check(error == cudaSuccess, "cudnn", what, " failed: ", cudaGetErrorString(error));
}

void check_lengths(const AttentionProblem& problem, const int32_t* key_lengths) {
  check((key_lengths != nullptr) == problem.masked, "cudnn", describe(problem), " needs ",
        problem.masked ? "key lengths" : "no key lengths");
}

void run(const AttentionProblem& problem, cudnnHandle_t handle, const CudnnPlan& plan, const Tensors& tensors,
         void* workspace, size_t workspace_bytes) {
  check(workspace_bytes >= plan.workspace(), "cudnn", describe(problem), " got ", workspace_bytes,
        " bytes of workspace but needs ", plan.workspace());
  try {
    plan.execute(handle, tensors, workspace);
  } catch (const CudnnError& error) {
    throw CudnnError(error.status, text(error.what(), ", in ", describe(problem)));
  }
}

}  // namespace

void CudnnAttention::Free::operator()(int32_t* memory) const {
  cudaFree(memory);
}

const CudnnAttention::Plans& CudnnAttention::plans(const AttentionProblem& problem) {
  const std::lock_guard lock(mutex_);
  const auto found = plans_.find(problem);
  if (found != plans_.end()) return found->second;
  Plans plans;
  const std::string reason = unsuitable(problem);
  if (!reason.empty()) {
    plans.refusal = text(describe(problem), ": ", reason);
  } else {
    check_version();
    try {
      plans.forward = make_plan(handle_, attention_forward_graph(problem));
      if (problem.training) plans.backward = make_plan(handle_, attention_backward_graph(problem));
    } catch (const CudnnError& error) {
      const std::string message = text(describe(problem), ": ", error.what());
      if (!error.not_supported()) throw CudnnError(error.status, message);
      plans.refusal = message;
    }
    if (plans.refusal.empty() && (problem.masked || (problem.training && backward_has_lengths(problem)))) {
      const std::vector<int32_t> full(static_cast<size_t>(problem.batch), static_cast<int32_t>(problem.tokens));
      const size_t bytes = full.size() * sizeof(int32_t);
      void* memory = nullptr;
      check_cuda(cudaMalloc(&memory, bytes), text("allocating the lengths of ", describe(problem)));
      plans.full_lengths.reset(static_cast<int32_t*>(memory));
      cudaStream_t stream = nullptr;
      check_cudnn(cudnnGetStream(handle_, &stream), text("asking for the stream of ", describe(problem)));
      check_cuda(cudaMemcpyAsync(memory, full.data(), bytes, cudaMemcpyHostToDevice, stream),
                 text("copying the lengths of ", describe(problem)));
      check_cuda(cudaStreamSynchronize(stream), text("copying the lengths of ", describe(problem)));
    }
  }
  return plans_.emplace(problem, std::move(plans)).first->second;
}

const CudnnAttention::Plans& CudnnAttention::usable(const AttentionProblem& problem) {
  const Plans& found = plans(problem);
  check(found.refusal.empty(), "cudnn", found.refusal);
  return found;
}

const std::string& CudnnAttention::refusal(const AttentionProblem& problem) {
  return plans(problem).refusal;
}

size_t CudnnAttention::forward_workspace(const AttentionProblem& problem) {
  return usable(problem).forward->workspace();
}

size_t CudnnAttention::backward_workspace(const AttentionProblem& problem) {
  check(problem.training, "cudnn", describe(problem), " was planned without a backward");
  return usable(problem).backward->workspace();
}

std::string CudnnAttention::engines(const AttentionProblem& problem) {
  const Plans& found = usable(problem);
  return text("forward ", found.forward->engine(), problem.training ? ", backward " : "",
              problem.training ? found.backward->engine() : "");
}

void CudnnAttention::forward(const AttentionProblem& problem, const bf16* qkv, const int32_t* key_lengths, bf16* y,
                             float* stats, void* workspace, size_t workspace_bytes) {
  const Plans& found = usable(problem);
  check_lengths(problem, key_lengths);
  const int64_t width = problem.heads * problem.head_size;
  Tensors tensors = {
      {query_id, qkv}, {key_id, qkv + width}, {value_id, qkv + 2 * width}, {output_id, y}, {stats_id, stats}};
  if (problem.masked) {
    tensors.emplace_back(query_length_id, found.full_lengths.get());
    tensors.emplace_back(key_length_id, key_lengths);
  }
  run(problem, handle_, *found.forward, tensors, workspace, workspace_bytes);
}

void CudnnAttention::backward(const AttentionProblem& problem, const bf16* qkv, const int32_t* key_lengths,
                              const bf16* y, const float* stats, const bf16* dy, bf16* dqkv, void* workspace,
                              size_t workspace_bytes) {
  check(problem.training, "cudnn", describe(problem), " was planned without a backward");
  const Plans& found = usable(problem);
  check_lengths(problem, key_lengths);
  const int64_t width = problem.heads * problem.head_size;
  Tensors tensors = {{query_id, qkv},
                     {key_id, qkv + width},
                     {value_id, qkv + 2 * width},
                     {output_id, y},
                     {stats_id, stats},
                     {output_gradient_id, dy},
                     {query_gradient_id, dqkv},
                     {key_gradient_id, dqkv + width},
                     {value_gradient_id, dqkv + 2 * width}};
  if (backward_has_lengths(problem)) {
    tensors.emplace_back(query_length_id, found.full_lengths.get());
    tensors.emplace_back(key_length_id, problem.masked ? key_lengths : found.full_lengths.get());
  }
  if (problem.masked) {
    // cuDNN does not promise to write the gradients of keys and values that are padding.
    cudaStream_t stream = nullptr;
    check_cudnn(cudnnGetStream(handle_, &stream), "reading the stream");
    const auto bytes = static_cast<size_t>(problem.batch * problem.tokens * 3 * width) * sizeof(bf16);
    check_cuda(cudaMemsetAsync(dqkv, 0, bytes, stream), text("clearing the gradient of ", describe(problem)));
  }
  run(problem, handle_, *found.backward, tensors, workspace, workspace_bytes);
}

AttentionSupport check_on_described_device(const AttentionProblem& problem, const std::string& device_json,
                                           bool compile) {
  AttentionSupport support;
  support.refusal = unsuitable(problem);
  if (!support.refusal.empty()) return support;
  check_version();
  const CudnnDescriptor device = describe_device(device_json);
  try {
    CudnnGraph graph = attention_forward_graph(problem);
    graph.finalize(nullptr);
    const CudnnEngine forward = std::move(find_engines(graph, &device).front());
    support.forward = forward.name;
    support.forward_workspace = forward.workspace;
    if (compile) check_engine(forward, device);
    if (!problem.training) return support;
    graph = attention_backward_graph(problem);
    graph.finalize(nullptr);
    const CudnnEngine backward = std::move(find_engines(graph, &device).front());
    support.backward = backward.name;
    support.backward_workspace = backward.workspace;
    if (compile) check_engine(backward, device);
  } catch (const CudnnError& error) {
    if (!error.not_supported()) throw;
    support.refusal = text(describe(problem), ": ", error.what());
  }
  return support;
}

}  // namespace duet::cuda
