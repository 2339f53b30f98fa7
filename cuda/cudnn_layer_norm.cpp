#include "duet/cuda/cudnn_layer_norm.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string_view>

#include "duet/core/tensor.h"
#include "duet/cuda/context.h"
#include "duet/cuda/cudnn_handle.h"

namespace duet::cuda {
namespace {

cudnnDataType_t type_of(const LayerNormProblem& problem) {
  return problem.dtype == DType::f32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
}

std::string describe(const LayerNormProblem& p) {
  return text(p.backward ? "layer norm backward " : "layer norm ", p.dtype, " (", p.rows, ", ", p.width, ")");
}

bool asked_for() {
  static const bool result = [] {
    const char* value = std::getenv("DUET_CUDNN_LAYER_NORM");
    const std::string_view wanted = value != nullptr ? value : "";
    check(wanted.empty() || wanted == "0" || wanted == "1", "cuda", "DUET_CUDNN_LAYER_NORM must be 0 or 1, got \"",
          wanted, "\"");
    return wanted == "1";
  }();
  return result;
}

// The device's plan for the problem, null where cuDNN refuses.
const CudnnPlan* plan_of(CudaContext which, const LayerNormProblem& problem) {
  static std::map<std::pair<int, LayerNormProblem>, std::unique_ptr<CudnnPlan>> plans;
  static std::mutex mutex;
  const cudnnHandle_t handle = cudnn_handle(which);
  const std::lock_guard lock(mutex);
  const auto key = std::pair(which.index, problem);
  if (const auto found = plans.find(key); found != plans.end()) return found->second.get();
  std::unique_ptr<CudnnPlan> plan;
  try {
    if (handle != nullptr)
      plan = make_plan(handle, layer_norm_graph(problem), [&](const CudnnEngine& engine) {
        return engine.keeps(type_of(problem), problem.deterministic);
      });
  } catch (const CudnnError& error) {
    if (!error.not_supported()) throw CudnnError(error.status, text(describe(problem), ": ", error.what()));
    std::fprintf(stderr, "note: cuDNN does not do %s (%s); our own kernel runs\n", describe(problem).c_str(),
                 error.what());
  }
  return plans.emplace(key, std::move(plan)).first->second.get();
}

}  // namespace

CudnnGraph layer_norm_graph(const LayerNormProblem& p) {
  const auto dense = [](const Dims& dims, cudnnDataType_t type) { return CudnnTensor{dims, row_major(dims), type}; };
  const CudnnTensor rows = dense({p.rows, p.width, 1, 1}, type_of(p));
  const CudnnTensor parameter = dense({1, p.width, 1, 1}, CUDNN_DATA_FLOAT);
  const CudnnTensor statistic = dense({p.rows, 1, 1, 1}, CUDNN_DATA_FLOAT);
  CudnnGraph graph;
  graph.add(norm_x_id, rows);
  graph.add(norm_scale_id, parameter);
  graph.add(norm_mean_id, statistic);
  graph.add(norm_rstd_id, statistic);
  if (p.backward) {
    graph.add(norm_dy_id, rows);
    graph.add(norm_dx_id, rows);
    graph.add(norm_dscale_id, parameter);
    graph.add(norm_dbias_id, parameter);
    graph.layer_norm_backward(norm_x_id, norm_scale_id, norm_mean_id, norm_rstd_id, norm_dy_id, norm_dx_id,
                              norm_dscale_id, norm_dbias_id);
  } else {
    graph.add(norm_bias_id, parameter);
    graph.add(norm_y_id, rows);
    graph.layer_norm(norm_x_id, norm_scale_id, norm_bias_id, graph.scalar(p.epsilon), norm_y_id, norm_mean_id,
                     norm_rstd_id);
  }
  return graph;
}

bool cudnn_does(CudaContext which, const LayerNormProblem& problem) {
  return asked_for() && problem.rows > 0 && plan_of(which, problem) != nullptr;
}

void run_cudnn(CudaContext which, const LayerNormProblem& problem,
               std::span<const std::pair<TensorId, const void*>> tensors) {
  const CudnnPlan* const plan = plan_of(which, problem);
  check(plan != nullptr, "cudnn", describe(problem), " is not supported here");
  const auto bytes = static_cast<int64_t>(plan->workspace());
  const Tensor workspace = Tensor::empty({bytes}, DType::u8, {DeviceKind::cuda, which.index});
  const Timed timed(context_of(which), problem.backward ? "cudnn_layer_norm_backward" : "cudnn_layer_norm");
  try {
    plan->execute(cudnn_handle(which), tensors, bytes > 0 ? workspace.raw() : nullptr);
  } catch (const CudnnError& error) {
    throw CudnnError(error.status, text(error.what(), ", in ", describe(problem)));
  }
}

LayerNormSupport check_on_described_device(const LayerNormProblem& problem, const std::string& device_json,
                                           bool compile) {
  LayerNormSupport support;
  const CudnnDescriptor device = describe_device(device_json);
  try {
    CudnnGraph graph = layer_norm_graph(problem);
    graph.finalize(nullptr);
    for (const CudnnEngine& engine : find_engines(graph, &device)) {
      if (!engine.keeps(type_of(problem), problem.deterministic)) continue;
      if (compile) check_engine(engine, device);
      support.engine = engine.name;
      support.workspace = engine.workspace;
      return support;
    }
    support.refusal = text(describe(problem), ": no engine has the accuracy or repeatability asked for");
  } catch (const CudnnError& error) {
    if (!error.not_supported()) throw;
    support.refusal = text(describe(problem), ": ", error.what());
  }
  return support;
}

}  // namespace duet::cuda
