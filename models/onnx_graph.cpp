#include "duet/models/onnx_graph.h"

#include <bit>
#include <charconv>

#include "onnx.pb.h"

namespace duet::models {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is written in the machine's byte order");

using onnx_file::AttributeProto;
using onnx_file::TensorProto;

void describe(const OnnxValue& value, onnx_file::ValueInfoProto& info) {
  info.set_name(value.name);
  auto* tensor = info.mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(static_cast<int32_t>(onnx_type_number(value.type)));
  auto* shape = tensor->mutable_shape();
  for (const OnnxSize& size : value.shape) {
    auto* dim = shape->add_dim();
    if (const auto* number = std::get_if<int64_t>(&size))
      dim->set_dim_value(*number);
    else
      dim->set_dim_param(std::get<std::string>(size));
  }
}

void set_value(AttributeProto& attribute, float value) {
  attribute.set_type(AttributeProto::FLOAT);
  attribute.set_f(value);
}

void set_value(AttributeProto& attribute, int64_t value) {
  attribute.set_type(AttributeProto::INT);
  attribute.set_i(value);
}

void set_value(AttributeProto& attribute, const std::vector<int64_t>& values) {
  attribute.set_type(AttributeProto::INTS);
  for (const int64_t v : values) attribute.add_ints(v);
}

}  // namespace

int64_t onnx_type_number(OnnxType type) {
  switch (type) {
    case OnnxType::float32:
      return TensorProto::FLOAT;
    case OnnxType::int64:
      return TensorProto::INT64;
    case OnnxType::boolean:
      return TensorProto::BOOL;
  }
  fail("onnx", "unknown element type ", static_cast<int>(type));
}

std::ostream& operator<<(std::ostream& out, const OnnxValue& value) {
  out << value.name << " (";
  for (size_t i = 0; i < value.shape.size(); ++i) {
    if (i > 0) out << ", ";
    std::visit([&](const auto& size) { out << size; }, value.shape[i]);
  }
  constexpr const char* names[] = {"float32", "int64", "bool"};
  return out << ") " << names[static_cast<size_t>(value.type)];
}

OnnxGraph::OnnxGraph(const std::string& name) : model_(std::make_unique<onnx_file::ModelProto>()) {
  model_->set_ir_version(ir_version);
  model_->set_producer_name("duet");
  auto* operators = model_->add_opset_import();
  operators->set_domain("");  // the standard operators
  operators->set_version(opset);
  model_->mutable_graph()->set_name(name);
}

OnnxGraph::~OnnxGraph() = default;
OnnxGraph::OnnxGraph(OnnxGraph&&) noexcept = default;

void OnnxGraph::define(const std::string& name) {
  check(!name.empty() && values_.insert(name).second, "onnx", "the name \"", name, "\" is taken or empty");
}

std::string OnnxGraph::input(const OnnxValue& value) {
  define(value.name);
  describe(value, *model_->mutable_graph()->add_input());
  inputs_.push_back(value);
  return value.name;
}

std::string OnnxGraph::store(const std::string& name, OnnxType type, const std::vector<int64_t>& shape,
                             const void* data, size_t bytes) {
  // Before the copy, so that the refusal costs no memory.
  check(stored_bytes_ + bytes <= static_cast<size_t>(max_bytes), "onnx", "with ", name, " the weights take ",
        stored_bytes_ + bytes, " bytes, and an ONNX file holds at most 2 GiB; --part vision or text exports less");
  define(name);
  stored_bytes_ += bytes;
  TensorProto* tensor = model_->mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(static_cast<int32_t>(onnx_type_number(type)));
  for (const int64_t dim : shape) tensor->add_dims(dim);
  tensor->set_raw_data(data, bytes);
  return name;
}

std::string OnnxGraph::weight(const std::string& name, const Tensor& tensor) {
  check(tensor.dtype() == DType::f32, "onnx", name, " is ", tensor, "; weights must be float32");
  std::vector<int64_t> shape;
  for (int i = 0; i < tensor.rank(); ++i) shape.push_back(tensor.dim(i));
  return store(name, OnnxType::float32, shape, tensor.raw(), tensor.bytes());
}

std::string OnnxGraph::scalar(float value) {
  char digits[32];  // the shortest that give this float and no other
  const std::string name =
      text("constant.", std::string_view(digits, std::to_chars(digits, std::end(digits), value).ptr));
  return values_.contains(name) ? name : store(name, OnnxType::float32, {}, &value, sizeof value);
}

std::string OnnxGraph::integer(int64_t value) {
  const std::string name = text("integer.", value);
  return values_.contains(name) ? name : store(name, OnnxType::int64, {}, &value, sizeof value);
}

std::string OnnxGraph::integers(const std::vector<int64_t>& values) {
  std::string name = "integers";
  for (const int64_t v : values) name += text('.', v);
  if (values_.contains(name)) return name;
  return store(name, OnnxType::int64, {static_cast<int64_t>(values.size())}, values.data(),
               values.size() * sizeof(int64_t));
}

std::vector<std::string> OnnxGraph::add_many(const std::string& op, const std::vector<std::string>& inputs,
                                             const std::vector<std::string>& outputs,
                                             const std::vector<OnnxAttribute>& attributes) {
  check(!outputs.empty(), "onnx", op, " needs an output");
  for (const std::string& name : inputs)
    check(values_.contains(name), "onnx", op, " ", outputs[0], " reads \"", name, "\", which nothing has made");
  onnx_file::NodeProto* node = model_->mutable_graph()->add_node();
  node->set_op_type(op);
  node->set_name(outputs[0]);
  for (const std::string& name : inputs) node->add_input(name);
  for (const std::string& name : outputs) {
    define(name);
    node->add_output(name);
  }
  for (const OnnxAttribute& a : attributes) {
    AttributeProto* attribute = node->add_attribute();
    attribute->set_name(a.name);
    std::visit([&](const auto& value) { set_value(*attribute, value); }, a.value);
  }
  return outputs;
}

std::string OnnxGraph::add(const std::string& op, const std::vector<std::string>& inputs, const std::string& output,
                           const std::vector<OnnxAttribute>& attributes) {
  return add_many(op, inputs, {output}, attributes)[0];
}

void OnnxGraph::output(const OnnxValue& value, const std::string& source) {
  add("Identity", {source}, value.name);
  describe(value, *model_->mutable_graph()->add_output());
  outputs_.push_back(value);
}

void OnnxGraph::metadata(const std::string& key, const std::string& value) {
  auto* entry = model_->add_metadata_props();
  entry->set_key(key);
  entry->set_value(value);
}

std::string OnnxGraph::serialize() const {
  check(!outputs_.empty(), "onnx", "the graph has no output");
  check(model_->ByteSizeLong() <= static_cast<size_t>(max_bytes), "onnx", "the file would take ",
        model_->ByteSizeLong(), " bytes, and an ONNX file holds at most 2 GiB");
  std::string bytes;
  check(model_->SerializeToString(&bytes), "onnx", "the model cannot be encoded");
  return bytes;
}

}  // namespace duet::models
