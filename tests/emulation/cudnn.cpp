// cuDNN's backend API as far as the engine's graphs go: attention and layer norm. One engine does every graph it can
// read. Off unless DUET_EMULATED_CUDNN=1, so that our own kernels, which do the same work, run under the emulation too.
#include <cudnn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/cudnn_backend.h"
#include "duet/tests/emulation/runtime.h"

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace duet::emulation {
namespace {

constexpr int64_t kPlanWorkspaceBytes = 512;

bool enabled() {
  const char* value = std::getenv("DUET_EMULATED_CUDNN");
  return value != nullptr && std::string(value) == "1";
}

std::string& last_reason() {
  thread_local std::string reason;
  return reason;
}

std::map<void*, std::shared_ptr<Backend>>& descriptors() {
  static auto& all = *new std::map<void*, std::shared_ptr<Backend>>;
  return all;
}

std::set<cudnnContext*>& handles() {
  static auto& all = *new std::set<cudnnContext*>;
  return all;
}

std::shared_ptr<Backend> find(void* descriptor) {
  const auto found = descriptors().find(descriptor);
  if (found == descriptors().end()) refuse(CUDNN_STATUS_BAD_PARAM, "no such descriptor");
  return found->second;
}

size_t size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    default:
      return 4;  // float and enumerations
  }
}

// Turns a refusal into the status to return.
template <class F>
cudnnStatus_t guarded(F f) {
  const auto lock = lock_runtime();
  if (!enabled()) {
    last_reason() = "cuDNN is not emulated unless DUET_EMULATED_CUDNN=1";
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  try {
    f();
    return CUDNN_STATUS_SUCCESS;
  } catch (const CudnnRefusal& refusal) {
    last_reason() = refusal.reason;
    return refusal.status;
  }
}

const Backend& graph_behind(const Backend& plan) {
  return plan.backend(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
      .backend(CUDNN_ATTR_ENGINECFG_ENGINE)
      .backend(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
}

std::shared_ptr<Backend> make(cudnnBackendDescriptorType_t type, int name, std::shared_ptr<const Backend> of) {
  auto result = std::make_shared<Backend>();
  result->type = type;
  result->finalized = true;
  result->attributes[name] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {std::move(of)}};
  return result;
}

void finalize(Backend& b) {
  if (b.type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) read_graph(b);
  if (b.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) {
    b.at(CUDNN_ATTR_ENGINEHEUR_MODE);
    if (!b.backend(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).finalized)
      refuse(CUDNN_STATUS_BAD_PARAM, "the heuristic's graph is not finalized");
  }
  if (b.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) graph_behind(b);
  b.finalized = true;
}

// Gives the caller's descriptors what the heuristic or the configuration holds.
void hand_out(const std::shared_ptr<Backend>& b, int name, int64_t capacity, int64_t* count, void* values) {
  auto* const targets = static_cast<cudnnBackendDescriptor_t*>(values);
  if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
    const bool first = b->get<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_A;
    *count = first ? 1 : 0;
    if (capacity == 0 || !first) return;
    auto graph = b->at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).backends[0];
    *find(targets[0]) = *make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_ENGINE,
                              make(CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph));
  } else if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
    *count = 1;
    *find(targets[0]) = b->backend(name);
  } else {
    *count = 0;  // no knobs
  }
}

void execute(cudnnContext* handle, const Backend& plan, const Backend& pack) {
  if (!handles().contains(handle)) refuse(CUDNN_STATUS_BAD_PARAM, "no such handle");
  if (!plan.finalized || !pack.finalized) refuse(CUDNN_STATUS_BAD_PARAM, "the plan or the pack is not finalized");
  const std::vector<GraphOperation> operations = read_graph(graph_behind(plan));
  const auto ids = pack.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto given = pack.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  if (ids.size() != given.size()) refuse(CUDNN_STATUS_BAD_PARAM, "as many pointers as ids are wanted");
  std::map<int64_t, void*> pointers;
  std::map<int64_t, float> scalars;
  for (size_t i = 0; i < ids.size(); ++i)
    if (!pointers.emplace(ids[i], given[i]).second)
      refuse(CUDNN_STATUS_BAD_PARAM, text("tensor ", ids[i], " is given twice"));
  const auto check_tensor = [&](const GraphTensor& t) {
    if (t.inside) return;
    const auto found = pointers.find(t.id);
    if (found == pointers.end()) refuse(CUDNN_STATUS_BAD_PARAM, text("tensor ", t.id, " is not given"));
    const auto address = reinterpret_cast<uintptr_t>(found->second);
    if (in_arena(address) == t.by_value)
      refuse(CUDNN_STATUS_BAD_PARAM, text("tensor ", t.id, " is in the wrong memory"));
    if (!t.by_value && address % 16 != 0) refuse(CUDNN_STATUS_BAD_PARAM, text("tensor ", t.id, " is misaligned"));
    if (t.by_value) scalars[t.id] = *static_cast<const float*>(found->second);
  };
  for (const GraphOperation& op : operations) {
    for (const GraphTensor& x : op.inputs) check_tensor(x);
    for (const GraphTensor& y : op.outputs) check_tensor(y);
  }
  void* const workspace = pack.get<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (!in_arena(reinterpret_cast<uintptr_t>(workspace)) || reinterpret_cast<uintptr_t>(workspace) % 256 != 0)
    refuse(CUDNN_STATUS_BAD_PARAM, "no workspace, or a misaligned one");
  CUstream_st* const stream = resolve(handle->stream);
  if (stream == nullptr) refuse(CUDNN_STATUS_BAD_PARAM, "unknown stream");
  const cudaError_t error = submit(*stream, {Node::Kind::matmul, "cuDNN", [=] {
                                               const OpenMemory open;
                                               if (!access_range(workspace, kPlanWorkspaceBytes, true)) return;
                                               std::memset(workspace, 0xff, kPlanWorkspaceBytes);
                                               run_graph(operations, pointers, scalars);
                                             }});
  if (error != cudaSuccess) refuse(CUDNN_STATUS_EXECUTION_FAILED, cudaGetErrorString(error));
}

}  // namespace

void refuse(cudnnStatus_t status, const std::string& reason) {
  throw CudnnRefusal{status, reason};
}

void Backend::refuse_attribute(int name) const {
  refuse(CUDNN_STATUS_BAD_PARAM,
         text("attribute ", name, " of descriptor type ", static_cast<int>(type), " has another type or count"));
}

const Backend::Attribute& Backend::at(int name) const {
  const auto found = attributes.find(name);
  if (found == attributes.end())
    refuse(CUDNN_STATUS_BAD_PARAM,
           text("attribute ", name, " of descriptor type ", static_cast<int>(type), " is not set"));
  return found->second;
}

}  // namespace duet::emulation

using namespace duet::emulation;

extern "C" {

size_t cudnnGetVersion() {
  return CUDNN_VERSION;
}
size_t cudnnGetMaxDeviceVersion() {
  return 0;
}
size_t cudnnGetCudartVersion() {
  return CUDART_VERSION;
}

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_BAD_PARAM:
      return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_EXECUTION_FAILED:
      return "CUDNN_STATUS_EXECUTION_FAILED";
    default:
      return "CUDNN_STATUS_NOT_SUPPORTED";
  }
}

void cudnnGetLastErrorString(char* message, size_t bytes) {
  if (message && bytes > 0) std::snprintf(message, bytes, "%s", last_reason().c_str());
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  return guarded([&] { *handle = *handles().insert(new cudnnContext).first; });
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  return guarded([&] {
    if (handles().erase(handle) == 0) refuse(CUDNN_STATUS_BAD_PARAM, "no such handle");
    delete handle;
  });
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  return guarded([&] {
    if (!handles().contains(handle)) refuse(CUDNN_STATUS_BAD_PARAM, "no such handle");
    handle->stream = stream;
  });
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  return guarded([&] {
    if (!handles().contains(handle)) refuse(CUDNN_STATUS_BAD_PARAM, "no such handle");
    *stream = handle->stream;
  });
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  return guarded([&] {
    auto b = std::make_shared<Backend>();
    b->type = type;
    *descriptor = b.get();
    descriptors()[*descriptor] = std::move(b);
  });
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  return guarded([&] { descriptors().erase(descriptor); });
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return guarded([&] { finalize(*find(descriptor)); });
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  return guarded([&] {
    const std::shared_ptr<Backend> b = find(descriptor);
    if (b->finalized || count < 1 || values == nullptr)
      refuse(CUDNN_STATUS_BAD_PARAM, duet::text("attribute ", static_cast<int>(name), " set late or to nothing"));
    Backend::Attribute attribute{type, count, {}, {}};
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
      for (int64_t i = 0; i < count; ++i)
        attribute.backends.push_back(find(static_cast<const cudnnBackendDescriptor_t*>(values)[i]));
    } else {
      const auto* bytes = static_cast<const std::byte*>(values);
      attribute.bytes.assign(bytes, bytes + static_cast<size_t>(count) * size_of(type));
    }
    b->attributes[name] = std::move(attribute);
  });
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t capacity, int64_t* count,
                                       void* values) {
  return guarded([&] {
    const std::shared_ptr<Backend> b = find(descriptor);
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) return hand_out(b, name, capacity, count, values);
    *count = 1;
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE)
      *count = 0;
    else if (name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX)
      *static_cast<int64_t*>(values) = 0;
    else if (name == CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE || name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)
      *static_cast<int64_t*>(values) = kPlanWorkspaceBytes;
    else
      refuse(CUDNN_STATUS_NOT_SUPPORTED, duet::text("reading attribute ", static_cast<int>(name)));
  });
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  return guarded([&] { execute(handle, *find(plan), *find(pack)); });
}
cudnnStatus_t cudnnBackendPopulateCudaGraph(cudnnHandle_t, cudnnBackendDescriptor_t, cudnnBackendDescriptor_t,
                                            cudaGraph_t) {
  return CUDNN_STATUS_NOT_SUPPORTED;
}
cudnnStatus_t cudnnBackendUpdateCudaGraph(cudnnHandle_t, cudnnBackendDescriptor_t, cudnnBackendDescriptor_t,
                                          cudaGraph_t) {
  return CUDNN_STATUS_NOT_SUPPORTED;
}
}
