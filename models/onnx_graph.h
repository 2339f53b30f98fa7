#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "duet/core/tensor.h"

namespace duet::onnx_file {
class ModelProto;
}

namespace duet::models {

enum class OnnxType { float32, int64, boolean };
// The type's number in the format, for attributes such as Cast's "to".
int64_t onnx_type_number(OnnxType type);

// A size of an input or output: a number, or the name of a size that varies, e.g. "batch".
using OnnxSize = std::variant<int64_t, std::string>;

// An input or output of the whole model.
struct OnnxValue {
  std::string name;
  OnnxType type;
  std::vector<OnnxSize> shape;
};

// Prints as "pixel_values (batch, 3, 64, 64) float32".
std::ostream& operator<<(std::ostream& out, const OnnxValue& value);

struct OnnxAttribute {
  std::string name;
  std::variant<float, int64_t, std::vector<int64_t>> value;
};

// Builds an ONNX model (https://onnx.ai/onnx/intro/concepts.html) node by node. Values are named strings; a node is
// named after its first output. Every function throws Error when a name is taken, or when a node reads a value that no
// input, weight or earlier node has made: what is built is always in order.
class OnnxGraph {
 public:
  static constexpr int64_t opset = 17;             // the first with LayerNormalization
  static constexpr int64_t ir_version = 8;         // of the ONNX releases with that opset
  static constexpr int64_t max_bytes = INT32_MAX;  // of a protocol buffer message

  explicit OnnxGraph(const std::string& name);
  ~OnnxGraph();
  OnnxGraph(OnnxGraph&&) noexcept;

  // Each returns the name of the value that it made, for use as an input.
  std::string input(const OnnxValue& value);
  // A float32 tensor that the file holds. Throws Error when the file would become larger than max_bytes.
  std::string weight(const std::string& name, const Tensor& tensor);
  // Constants; equal ones are stored once.
  std::string scalar(float value);                           // rank 0
  std::string integer(int64_t value);                        // rank 0
  std::string integers(const std::vector<int64_t>& values);  // rank 1
  std::string add(const std::string& op, const std::vector<std::string>& inputs, const std::string& output,
                  const std::vector<OnnxAttribute>& attributes = {});
  std::vector<std::string> add_many(const std::string& op, const std::vector<std::string>& inputs,
                                    const std::vector<std::string>& outputs,
                                    const std::vector<OnnxAttribute>& attributes = {});
  // Makes `source` an output of the model, under the name in `value`.
  void output(const OnnxValue& value, const std::string& source);
  // Text that the file carries beside the graph.
  void metadata(const std::string& key, const std::string& value);

  const std::vector<OnnxValue>& inputs() const { return inputs_; }
  const std::vector<OnnxValue>& outputs() const { return outputs_; }
  // The file's content.
  std::string serialize() const;

 private:
  void define(const std::string& name);
  std::string store(const std::string& name, OnnxType type, const std::vector<int64_t>& shape, const void* data,
                    size_t bytes);

  std::unique_ptr<onnx_file::ModelProto> model_;
  std::set<std::string> values_;
  std::vector<OnnxValue> inputs_, outputs_;
  size_t stored_bytes_ = 0;
};

}  // namespace duet::models
