#pragma once

#include <cudnn.h>

#include <array>
#include <bitset>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "duet/core/error.h"

// cuDNN's graph API in the shape the engine needs: tensors of four dimensions, operations between them, the engines
// cuDNN offers for the whole, and a plan that runs one. NVIDIA documents it as the "cuDNN backend API".
namespace duet::cuda {

// Carries the status, so that "cuDNN has no engine for this" can be told from a broken installation.
class CudnnError : public Error {
 public:
  CudnnError(cudnnStatus_t s, const std::string& message) : Error(message), status(s) {}
  bool not_supported() const { return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED; }
  const cudnnStatus_t status;
};

// Throws CudnnError with cuDNN's own explanation unless status is success. `what` names the call.
void check_cudnn(cudnnStatus_t status, std::string_view what);

// Owns one backend descriptor.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values);
  void set(cudnnBackendAttributeName_t name, cudnnDataType_t value) { set(name, CUDNN_TYPE_DATA_TYPE, 1, &value); }
  void set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
  void set(cudnnBackendAttributeName_t name, bool value) { set(name, CUDNN_TYPE_BOOLEAN, 1, &value); }
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value);
  // Reads at most `count` values; returns how many there are.
  int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, void* values) const;
  void finalize();
  cudnnBackendDescriptor_t get() const { return descriptor_.get(); }

 private:
  struct Destroy {
    void operator()(void* descriptor) const { cudnnBackendDestroyDescriptor(descriptor); }
  };
  std::unique_ptr<void, Destroy> descriptor_;
  int type_;  // as in cudnnBackendDescriptorType_t, for messages
};

using Dims = std::array<int64_t, 4>;
Dims row_major(const Dims& dims);  // strides

// A tensor of a CudnnGraph, by its unique id.
using TensorId = int64_t;

struct CudnnTensor {
  Dims dims;
  Dims strides;
  cudnnDataType_t type;
};

// Operations on tensors, in the order they are added. Intermediate tensors exist only inside the fused kernel.
class CudnnGraph {
 public:
  // An input or output in device memory, 16-byte aligned, given by id when the plan runs.
  void add(TensorId id, const CudnnTensor& tensor);
  TensorId intermediate(const CudnnTensor& tensor);
  // A device tensor that only the plan uses; it lies in the plan's workspace.
  TensorId scratch(const CudnnTensor& tensor, size_t bytes);
  TensorId scalar(float value);

  struct Pointwise {
    cudnnPointwiseMode_t mode;
    TensorId x;
    TensorId b = 0;  // second operand, 0 = none
    TensorId t = 0;  // third operand: the condition of a select
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    int64_t axis = -1;  // of the index that GEN_INDEX writes
  };
  void pointwise(const Pointwise& operation, TensorId y);
  // c = a b over the last two dimensions. A nonzero m, n or k names an int32 tensor (B, 1, 1, 1) with the part of that
  // extent that is valid in each sample.
  void matmul(TensorId a, TensorId b, TensorId c, TensorId m = 0, TensorId n = 0, TensorId k = 0);
  void reduce(cudnnReduceTensorOp_t operation, TensorId x, TensorId y);
  void reshape(TensorId x, TensorId y);  // the same elements seen with other strides
  // Layer norm over dimensions 1 to 3 of x (N, C, 1, 1); scale and bias (1, C, 1, 1), mean and rstd (N, 1, 1, 1).
  void layer_norm(TensorId x, TensorId scale, TensorId bias, TensorId epsilon, TensorId y, TensorId mean,
                  TensorId rstd);
  void layer_norm_backward(TensorId x, TensorId scale, TensorId mean, TensorId rstd, TensorId dy, TensorId dx,
                           TensorId dscale, TensorId dbias);

  // An operation made elsewhere, finalized.
  void add(CudnnDescriptor operation) { operations_.push_back(std::move(operation)); }

  // Joins the operations. With a null handle the graph belongs to no device of this process.
  void finalize(cudnnHandle_t handle);

  const CudnnDescriptor& descriptor() const { return *graph_; }
  const std::vector<std::pair<TensorId, float>>& scalars() const { return scalars_; }
  const std::vector<std::pair<TensorId, size_t>>& scratches() const { return scratches_; }

 private:
  enum class Place { device, inside, host };
  void create(TensorId id, const CudnnTensor& tensor, Place place);
  const CudnnDescriptor& at(TensorId id) const;

  std::vector<std::pair<TensorId, CudnnDescriptor>> tensors_;
  std::vector<CudnnDescriptor> settings_;  // what operations refer to
  std::vector<CudnnDescriptor> operations_;
  std::vector<std::pair<TensorId, float>> scalars_;
  std::vector<std::pair<TensorId, size_t>> scratches_;
  std::unique_ptr<CudnnDescriptor> graph_;
  TensorId next_id_ = 100;  // callers' ids lie below
};

// One engine of cuDNN with its settings.
struct CudnnEngine {
  CudnnDescriptor config;
  std::string name;   // "engine 6 k24=26", numbered as cuDNN does: the engine and its cudnnBackendKnobType_t choices
  int64_t workspace;  // bytes
  std::bitset<CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes;  // by cudnnBackendNumericalNote_t
  // Whether it computes what was asked for in another order at most: no rounding of inputs or partial sums, no FFT or
  // Winograd transforms, and if `deterministic` the same bits every time. Tensor cores round float32 inputs.
  bool keeps(cudnnDataType_t type, bool deterministic) const;
};

// The engines cuDNN's heuristics offer for the graph, best first, for the graph's device or a described one. Throws
// CudnnError where there is none.
std::vector<CudnnEngine> find_engines(const CudnnGraph& graph, const CudnnDescriptor* device = nullptr);

// A device by its properties in cuDNN's JSON form, for asking about devices that are not there.
CudnnDescriptor describe_device(const std::string& json);

// Throws CudnnError unless the engine makes its kernels for the described device. A process without a driver gets as
// far as loading them, which counts as success.
void check_engine(const CudnnEngine& engine, const CudnnDescriptor& device);

// A graph made ready to run by one engine.
class CudnnPlan {
 public:
  // Loads the engine's kernels, compiling them where needed. Throws CudnnError where the engine cannot run here.
  CudnnPlan(cudnnHandle_t handle, const CudnnGraph& graph, CudnnEngine engine);

  const std::string& engine() const { return engine_.name; }
  size_t workspace() const { return workspace_; }  // bytes

  // Starts the plan on the handle's stream. Allocates no device memory. The workspace is 256-byte aligned.
  void execute(cudnnHandle_t handle, std::span<const std::pair<TensorId, const void*>> tensors, void* workspace) const;

 private:
  CudnnEngine engine_;
  CudnnDescriptor plan_;
  std::vector<std::pair<TensorId, float>> scalars_;
  std::vector<std::pair<TensorId, size_t>> offsets_;  // of scratch tensors in the workspace
  size_t workspace_ = 0;
};

// Finalizes the graph and makes the best engine ready that can be and that `acceptable` takes (empty = all). Those that
// failed, and why, become part of the name. Throws CudnnError where there is none.
std::unique_ptr<CudnnPlan> make_plan(cudnnHandle_t handle, CudnnGraph graph,
                                     const std::function<bool(const CudnnEngine&)>& acceptable = {});

}  // namespace duet::cuda
