// What the emulation keeps behind cuDNN's backend descriptors, and the graphs it can run.
#pragma once

#include <cudnn.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace duet::emulation {

// A refused call: becomes the returned status, and cudnnGetLastErrorString's text.
struct CudnnRefusal {
  cudnnStatus_t status;
  std::string reason;
};

[[noreturn]] void refuse(cudnnStatus_t status, const std::string& reason);

// One descriptor. What it refers to stays alive with it, as a plan outlives the graph it was made from.
struct Backend {
  struct Attribute {
    cudnnBackendAttributeType_t type;
    int64_t count;
    std::vector<std::byte> bytes;
    std::vector<std::shared_ptr<const Backend>> backends;
  };
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<int, Attribute> attributes;  // by cudnnBackendAttributeName_t

  const Attribute& at(int name) const;  // throws CudnnRefusal where it was not set
  bool has(int name) const { return attributes.contains(name); }
  const Backend& backend(int name) const { return *at(name).backends.at(0); }
  template <class T>
  T get(int name) const {
    const std::vector<T> values = all<T>(name);
    if (values.size() != 1) refuse_attribute(name);
    return values[0];
  }
  template <class T>
  std::vector<T> all(int name) const {
    const Attribute& attribute = at(name);
    // std::vector<bool> has no array of bools.
    std::vector<T> values(static_cast<size_t>(attribute.count));
    if (attribute.bytes.size() != values.size() * sizeof(T)) refuse_attribute(name);
    for (size_t i = 0; i < values.size(); ++i) {
      T value;
      std::memcpy(&value, attribute.bytes.data() + i * sizeof(T), sizeof(T));
      values[i] = value;
    }
    return values;
  }
  [[noreturn]] void refuse_attribute(int name) const;  // set with another type or count than it has
};

struct GraphTensor {
  int64_t id = 0;
  std::array<int64_t, 4> dims{}, strides{};
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  bool inside = false;    // exists only inside of the graph
  bool by_value = false;  // one number in host memory
  int64_t count() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

struct GraphOperation {
  cudnnBackendDescriptorType_t type;
  int mode = 0;      // pointwise or reduction
  int64_t axis = 0;  // of pointwise GEN_INDEX
  std::vector<GraphTensor> inputs, outputs;
  std::array<int, 3> extents{-1, -1, -1};  // of a matmul: which input names the valid m, n, k
};

// Reads a finalized operation graph; throws CudnnRefusal where it is wrong or not emulated.
std::vector<GraphOperation> read_graph(const Backend& graph);

// Runs the operations in double precision, each result rounded to its tensor's type. What lies beyond a matmul's valid
// extents is NaN inside of the graph and not written outside. Every access to device memory is checked.
void run_graph(const std::vector<GraphOperation>& operations, const std::map<int64_t, void*>& pointers,
               const std::map<int64_t, float>& scalars);

}  // namespace duet::emulation
