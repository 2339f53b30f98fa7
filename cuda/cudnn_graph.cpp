#include "duet/cuda/cudnn_graph.h"

#include <algorithm>

namespace duet::cuda {
namespace {

constexpr size_t alignment = 256;  // of the parts of a workspace; cudaMalloc's own

size_t align(size_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// The knobs an engine is set to, as " k24=26".
std::string knobs_of(const CudnnDescriptor& config) {
  std::vector<CudnnDescriptor> choices;
  std::vector<cudnnBackendDescriptor_t> pointers;
  for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; ++i) {
    choices.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    pointers.push_back(choices.back().get());
  }
  const int64_t count = config.get(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                   CUDNN_KNOB_TYPE_COUNTS, pointers.data());
  std::string names;
  for (int64_t i = 0; i < std::min<int64_t>(count, CUDNN_KNOB_TYPE_COUNTS); ++i) {
    cudnnBackendKnobType_t knob{};
    int64_t value = 0;
    const CudnnDescriptor& choice = choices[static_cast<size_t>(i)];
    choice.get(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &knob);
    choice.get(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
    names += text(" k", static_cast<int>(knob), "=", value);
  }
  return names;
}

CudnnEngine read_engine(CudnnDescriptor config) {
  CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t pointer = engine.get();
  config.get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &pointer);
  int64_t number = -1, workspace = 0;
  engine.get(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &number);
  config.get(CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
  std::string name = text("engine ", number, knobs_of(config));
  CudnnEngine result{std::move(config), std::move(name), workspace, {}};
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  const int64_t count =
      engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, notes.size(), notes.data());
  // A newer library may have more of them, and others.
  for (size_t i = 0; i < notes.size() && static_cast<int64_t>(i) < count; ++i)
    if (notes[i] >= 0 && notes[i] < CUDNN_NUMERICAL_NOTE_TYPE_COUNT) result.notes.set(static_cast<size_t>(notes[i]));
  return result;
}

// Appends the engines of one heuristic; returns why there are none, or an empty string.
std::string append_engines(const CudnnGraph& graph, const CudnnDescriptor* device, cudnnBackendHeurMode_t mode,
                           std::vector<CudnnEngine>& engines, cudnnStatus_t& status) {
  try {
    CudnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.descriptor());
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (device != nullptr) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *device);
    heuristics.finalize();
    const int64_t count = heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
    std::vector<CudnnDescriptor> configs;
    std::vector<cudnnBackendDescriptor_t> pointers;
    for (int64_t i = 0; i < count; ++i) {
      configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
      pointers.push_back(configs.back().get());
    }
    if (count == 0) return {};
    const int64_t filled =
        heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, pointers.data());
    for (int64_t i = 0; i < std::min(filled, count); ++i)
      engines.push_back(read_engine(std::move(configs[static_cast<size_t>(i)])));
    return {};
  } catch (const CudnnError& error) {
    if (!error.not_supported()) throw;
    status = error.status;
    return error.what();
  }
}

}  // namespace

void check_cudnn(cudnnStatus_t status, std::string_view what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 2048> details{};
  cudnnGetLastErrorString(details.data(), details.size() - 1);
  throw CudnnError(status, text("[cudnn] ", what, " failed: ", cudnnGetErrorString(status), details[0] != 0 ? ": " : "",
                                details.data()));
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) : type_(type) {
  cudnnBackendDescriptor_t descriptor = nullptr;
  check_cudnn(cudnnBackendCreateDescriptor(type, &descriptor), text("creating descriptor type ", type_));
  descriptor_.reset(descriptor);
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                          const void* values) {
  const cudnnStatus_t status = cudnnBackendSetAttribute(get(), name, type, count, values);
  if (status != CUDNN_STATUS_SUCCESS)
    check_cudnn(status, text("setting attribute ", static_cast<int>(name), " of descriptor type ", type_));
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
  const cudnnBackendDescriptor_t pointer = value.get();
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &pointer);
}

int64_t CudnnDescriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                             void* values) const {
  int64_t available = 0;
  const cudnnStatus_t status = cudnnBackendGetAttribute(get(), name, type, count, &available, values);
  if (status != CUDNN_STATUS_SUCCESS)
    check_cudnn(status, text("reading attribute ", static_cast<int>(name), " of descriptor type ", type_));
  return available;
}

void CudnnDescriptor::finalize() {
  const cudnnStatus_t status = cudnnBackendFinalize(get());
  if (status != CUDNN_STATUS_SUCCESS) check_cudnn(status, text("finalizing descriptor type ", type_));
}

Dims row_major(const Dims& dims) {
  return {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1};
}

void CudnnGraph::create(TensorId id, const CudnnTensor& tensor, Place place) {
  CudnnDescriptor descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  descriptor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, tensor.type);
  descriptor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, tensor.dims.data());
  descriptor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, tensor.strides.data());
  descriptor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
  descriptor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{16});
  if (place == Place::inside) descriptor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
  if (place == Place::host) descriptor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
  descriptor.finalize();
  tensors_.emplace_back(id, std::move(descriptor));
}

const CudnnDescriptor& CudnnGraph::at(TensorId id) const {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(), [&](const auto& t) { return t.first == id; });
  check(found != tensors_.end(), "cudnn", "tensor ", id, " is used in a graph that has no such tensor");
  return found->second;
}

void CudnnGraph::add(TensorId id, const CudnnTensor& tensor) {
  create(id, tensor, Place::device);
}

TensorId CudnnGraph::intermediate(const CudnnTensor& tensor) {
  create(next_id_, tensor, Place::inside);
  return next_id_++;
}

TensorId CudnnGraph::scratch(const CudnnTensor& tensor, size_t bytes) {
  create(next_id_, tensor, Place::device);
  scratches_.emplace_back(next_id_, bytes);
  return next_id_++;
}

TensorId CudnnGraph::scalar(float value) {
  create(next_id_, {{1, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_FLOAT}, Place::host);
  scalars_.emplace_back(next_id_, value);
  return next_id_++;
}

void CudnnGraph::pointwise(const Pointwise& operation, TensorId y) {
  CudnnDescriptor setting(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  setting.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &operation.mode);
  setting.set(CUDNN_ATTR_POINTWISE_MATH_PREC, operation.compute);
  if (operation.axis >= 0) setting.set(CUDNN_ATTR_POINTWISE_AXIS, operation.axis);
  setting.finalize();
  CudnnDescriptor node(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, setting);
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(operation.x));
  if (operation.b != 0) node.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, at(operation.b));
  if (operation.t != 0) node.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, at(operation.t));
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(y));
  node.finalize();
  settings_.push_back(std::move(setting));
  operations_.push_back(std::move(node));
}

void CudnnGraph::matmul(TensorId a, TensorId b, TensorId c, TensorId m, TensorId n, TensorId k) {
  CudnnDescriptor setting(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  setting.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
  setting.finalize();
  CudnnDescriptor node(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, at(a));
  node.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, at(b));
  node.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, at(c));
  node.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, setting);
  if (m != 0) node.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, at(m));
  if (n != 0) node.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, at(n));
  if (k != 0) node.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, at(k));
  node.finalize();
  settings_.push_back(std::move(setting));
  operations_.push_back(std::move(node));
}

void CudnnGraph::reduce(cudnnReduceTensorOp_t operation, TensorId x, TensorId y) {
  CudnnDescriptor setting(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  setting.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  setting.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &operation);
  setting.finalize();
  CudnnDescriptor node(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, at(x));
  node.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, at(y));
  node.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, setting);
  node.finalize();
  settings_.push_back(std::move(setting));
  operations_.push_back(std::move(node));
}

void CudnnGraph::reshape(TensorId x, TensorId y) {
  CudnnDescriptor node(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, at(x));
  node.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, at(y));
  node.finalize();
  operations_.push_back(std::move(node));
}

void CudnnGraph::layer_norm(TensorId x, TensorId scale, TensorId bias, TensorId epsilon, TensorId y, TensorId mean,
                            TensorId rstd) {
  constexpr cudnnBackendNormMode_t mode = CUDNN_LAYER_NORM;
  constexpr cudnnBackendNormFwdPhase_t phase = CUDNN_NORM_FWD_TRAINING;
  CudnnDescriptor node(CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE, 1, &phase);
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, at(x));
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, at(scale));
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, at(bias));
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, at(epsilon));
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, at(y));
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, at(mean));
  node.set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, at(rstd));
  node.finalize();
  operations_.push_back(std::move(node));
}

void CudnnGraph::layer_norm_backward(TensorId x, TensorId scale, TensorId mean, TensorId rstd, TensorId dy, TensorId dx,
                                     TensorId dscale, TensorId dbias) {
  constexpr cudnnBackendNormMode_t mode = CUDNN_LAYER_NORM;
  CudnnDescriptor node(CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, at(x));
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, at(mean));
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, at(rstd));
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, at(scale));
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, at(dy));
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, at(dx));
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, at(dscale));
  node.set(CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, at(dbias));
  node.finalize();
  operations_.push_back(std::move(node));
}

void CudnnGraph::finalize(cudnnHandle_t handle) {
  std::vector<cudnnBackendDescriptor_t> pointers;
  for (const CudnnDescriptor& operation : operations_) pointers.push_back(operation.get());
  auto graph = std::make_unique<CudnnDescriptor>(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph->set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(pointers.size()),
             pointers.data());
  if (handle != nullptr) graph->set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  graph->finalize();
  graph_ = std::move(graph);
}

std::vector<CudnnEngine> find_engines(const CudnnGraph& graph, const CudnnDescriptor* device) {
  std::vector<CudnnEngine> engines;
  std::string reasons;
  cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    const std::string reason = append_engines(graph, device, mode, engines, status);
    if (reasons.find(reason) == std::string::npos) reasons += reasons.empty() ? reason : "; " + reason;
  }
  if (engines.empty())
    throw CudnnError(status, reasons.empty() ? "[cudnn] no engine is offered for the graph, and no reason" : reasons);
  return engines;
}

bool CudnnEngine::keeps(cudnnDataType_t type, bool deterministic) const {
  for (const cudnnBackendNumericalNote_t note :
       {CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
        CUDNN_NUMERICAL_NOTE_FFT, CUDNN_NUMERICAL_NOTE_WINOGRAD})
    if (notes[note]) return false;
  return !(deterministic && notes[CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC]) &&
         !(type == CUDNN_DATA_FLOAT && notes[CUDNN_NUMERICAL_NOTE_TENSOR_CORE]);
}

CudnnDescriptor describe_device(const std::string& json) {
  CudnnDescriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<int64_t>(json.size()),
             json.data());
  device.finalize();
  return device;
}

void check_engine(const CudnnEngine& engine, const CudnnDescriptor& device) {
  CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine.config);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
  try {
    plan.finalize();
  } catch (const CudnnError& error) {
    if (error.status != CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER) throw;
  }
}

CudnnPlan::CudnnPlan(cudnnHandle_t handle, const CudnnGraph& graph, CudnnEngine engine)
    : engine_(std::move(engine)), plan_(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), scalars_(graph.scalars()) {
  plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  plan_.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine_.config);
  plan_.finalize();
  int64_t bytes = 0;
  plan_.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
  check(bytes >= 0, "cudnn", "a plan (", engine_.name, ") asks for ", bytes, " bytes of workspace");
  workspace_ = align(static_cast<size_t>(bytes));
  for (const auto& [id, size] : graph.scratches()) {
    offsets_.emplace_back(id, workspace_);
    workspace_ += align(size);
  }
}

void CudnnPlan::execute(cudnnHandle_t handle, std::span<const std::pair<TensorId, const void*>> tensors,
                        void* workspace) const {
  check(workspace != nullptr || workspace_ == 0, "cudnn", "a plan got no workspace but needs ", workspace_, " bytes");
  std::vector<int64_t> ids;
  std::vector<const void*> pointers;
  for (const auto& [id, pointer] : tensors) {
    check(pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0, "cudnn", "tensor ", id, " is at ",
          pointer, "; its address must be a multiple of 16");
    ids.push_back(id);
    pointers.push_back(pointer);
  }
  for (const auto& [id, value] : scalars_) {  // read from host memory during the call
    ids.push_back(id);
    pointers.push_back(&value);
  }
  for (const auto& [id, offset] : offsets_) {
    ids.push_back(id);
    pointers.push_back(static_cast<char*>(workspace) + offset);
  }
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  const auto count = static_cast<int64_t>(ids.size());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize();
  check_cudnn(cudnnBackendExecute(handle, plan_.get(), pack.get()), text("running ", engine_.name));
}

std::unique_ptr<CudnnPlan> make_plan(cudnnHandle_t handle, CudnnGraph graph,
                                     const std::function<bool(const CudnnEngine&)>& acceptable) {
  graph.finalize(handle);
  std::string reasons;
  cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
  for (CudnnEngine& engine : find_engines(graph)) {
    if (acceptable && !acceptable(engine)) continue;
    const std::string name = engine.name;
    if (!reasons.empty()) engine.name += " after " + reasons;
    try {
      return std::make_unique<CudnnPlan>(handle, graph, std::move(engine));
    } catch (const CudnnError& error) {
      if (!error.not_supported()) status = error.status;  // worth more than "not supported" if no engine works
      reasons += text(reasons.empty() ? "" : "; ", name, ": ", error.what());
    }
  }
  throw CudnnError(status, text("[cudnn] no engine ", reasons.empty() ? "has the accuracy or repeatability asked for"
                                                                      : "can be made ready: " + reasons));
}

}  // namespace duet::cuda
