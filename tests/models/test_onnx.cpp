#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "duet/core/json.h"
#include "duet/models/hub.h"
#include "duet/models/onnx_export.h"
#include "duet/tests/models/small_models.h"
#include "duet/tests/train/expect.h"
#include "onnx.pb.h"

namespace duet::models {
namespace {

using onnx_file::AttributeProto;
using onnx_file::GraphProto;
using onnx_file::ModelProto;
using onnx_file::NodeProto;
using onnx_file::TensorProto;
using train::message_of;
using train::TemporaryDirectory;

DualEncoderConfig small_dual() {
  DualEncoderConfig c;
  c.vision = small_vit();
  c.text = small_bert();
  c.projection_dim = 5;
  return c;
}

ClassifierConfig small_classifier(bool vision, bool text) {
  ClassifierConfig c;
  if (vision) c.vision = small_vit();
  if (text) c.text = small_bert();
  c.labels = {"cat", "dog", "b\xC3\xA4r", "quote\"s"};
  return c;
}

ModelProto parsed(const OnnxGraph& graph) {
  ModelProto model;
  EXPECT_TRUE(model.ParseFromString(graph.serialize()));
  return model;
}

std::vector<std::string> printed(const std::vector<OnnxValue>& values) {
  std::vector<std::string> lines;
  for (const OnnxValue& v : values) lines.push_back(text(v));
  return lines;
}

// As the file says it, independent of how OnnxValue prints.
template <class Infos>
std::vector<std::string> read(const Infos& infos) {
  std::vector<std::string> lines;
  for (const auto& info : infos) {
    const auto& tensor = info.type().tensor_type();
    std::string line = info.name() + " (";
    for (int i = 0; i < tensor.shape().dim_size(); ++i) {
      const auto& dim = tensor.shape().dim(i);
      EXPECT_NE(dim.has_dim_value(), dim.has_dim_param()) << info.name();
      line += (i > 0 ? ", " : "") + (dim.has_dim_param() ? dim.dim_param() : std::to_string(dim.dim_value()));
    }
    lines.push_back(line + ") " + (tensor.elem_type() == 1 ? "float32" : tensor.elem_type() == 7 ? "int64" : "?"));
  }
  return lines;
}

void expect_typed(const AttributeProto& a) {
  switch (a.type()) {
    case AttributeProto::FLOAT:
      EXPECT_TRUE(a.has_f() && !a.has_i() && a.ints_size() == 0) << a.name();
      break;
    case AttributeProto::INT:
      EXPECT_TRUE(a.has_i() && !a.has_f() && a.ints_size() == 0) << a.name();
      break;
    case AttributeProto::INTS:
      EXPECT_TRUE(a.ints_size() > 0 && !a.has_i() && !a.has_f()) << a.name();
      break;
    default:
      ADD_FAILURE() << a.name() << " has no type";
  }
}

// What every ONNX graph must hold to: names are given once and before they are read, and nothing lies around unused.
void expect_sound(const ModelProto& model) {
  EXPECT_EQ(model.ir_version(), 8);
  ASSERT_EQ(model.opset_import_size(), 1);
  EXPECT_EQ(model.opset_import(0).domain(), "");
  EXPECT_EQ(model.opset_import(0).version(), 17);
  const GraphProto& graph = model.graph();
  std::set<std::string> defined, node_names, read_names;
  for (const auto& input : graph.input()) EXPECT_TRUE(defined.insert(input.name()).second) << input.name();
  for (const TensorProto& t : graph.initializer()) {
    EXPECT_TRUE(defined.insert(t.name()).second) << t.name();
    int64_t elements = 1;
    for (const int64_t d : t.dims()) elements *= d;
    EXPECT_EQ(static_cast<int64_t>(t.raw_data().size()), elements * (t.data_type() == TensorProto::FLOAT ? 4 : 8));
  }
  for (const NodeProto& node : graph.node()) {
    EXPECT_FALSE(node.op_type().empty());
    EXPECT_TRUE(node_names.insert(node.name()).second) << node.name();
    for (const std::string& name : node.input()) {
      EXPECT_TRUE(defined.contains(name)) << node.name() << " reads " << name;
      read_names.insert(name);
    }
    EXPECT_GT(node.output_size(), 0) << node.name();
    for (const std::string& name : node.output()) EXPECT_TRUE(defined.insert(name).second) << name;
    for (const AttributeProto& a : node.attribute()) expect_typed(a);
  }
  for (const auto& output : graph.output()) {
    EXPECT_TRUE(defined.contains(output.name())) << output.name();
    read_names.insert(output.name());
  }
  EXPECT_EQ(read_names, defined);
}

// All parameters but those that start with one of `without`, and each once, with the store's bits.
void expect_weights(const ModelProto& model, const ParamStore& store, const std::vector<std::string>& without = {}) {
  std::map<std::string, const TensorProto*> tensors;
  size_t bytes = 0, expected_bytes = 0;
  for (const TensorProto& t : model.graph().initializer()) {
    tensors[t.name()] = &t;
    bytes += t.raw_data().size();
  }
  for (const Parameter& p : store.parameters()) {
    const bool left_out = std::any_of(without.begin(), without.end(),
                                      [&](const std::string& prefix) { return p.name.starts_with(prefix); });
    ASSERT_EQ(tensors.contains(p.name), !left_out) << p.name;
    if (left_out) continue;
    const TensorProto& t = *tensors[p.name];
    const Tensor value = p.value.data();
    Shape shape;
    for (const int64_t d : t.dims()) shape.append(d);
    EXPECT_EQ(text(shape), text(value.shape())) << p.name;
    EXPECT_EQ(t.data_type(), TensorProto::FLOAT) << p.name;
    ASSERT_EQ(t.raw_data().size(), value.bytes()) << p.name;
    EXPECT_EQ(std::memcmp(t.raw_data().data(), value.raw(), value.bytes()), 0) << p.name;
    expected_bytes += value.bytes();
  }
  EXPECT_LT(bytes, expected_bytes + 500) << "beside the weights there are only small constants";
}

int count(const ModelProto& model, const std::string& op) {
  return static_cast<int>(std::count_if(model.graph().node().begin(), model.graph().node().end(),
                                        [&](const NodeProto& n) { return n.op_type() == op; }));
}

const std::vector<std::string> text_inputs{"input_ids (batch, sequence) int64",
                                           "attention_mask (batch, sequence) int64",
                                           "token_type_ids (batch, sequence) int64"};
const std::string image_input = "pixel_values (batch, 3, 6, 6) float32";

void expect_values(const OnnxGraph& graph, const std::vector<std::string>& inputs,
                   const std::vector<std::string>& outputs) {
  const ModelProto model = parsed(graph);
  EXPECT_EQ(read(model.graph().input()), inputs);
  EXPECT_EQ(read(model.graph().output()), outputs);
  EXPECT_EQ(printed(graph.inputs()), inputs);
  EXPECT_EQ(printed(graph.outputs()), outputs);
  expect_sound(model);
}

TEST(Onnx, BertEncoder) {
  ParamStore store(1);
  const Bert bert({store, "text_model"}, small_bert(), true);
  const OnnxGraph graph = text_graph(store, small_bert(), {.pooler = true});
  expect_values(graph, text_inputs,
                {"last_hidden_state (batch, sequence, 6) float32", "pooler_output (batch, 6) float32"});
  const ModelProto model = parsed(graph);
  expect_weights(model, store);
  EXPECT_EQ(count(model, "LayerNormalization"), 1 + 2 * 2);
  EXPECT_EQ(count(model, "Softmax"), 2);
  EXPECT_EQ(count(model, "Erf"), 2);
  for (const NodeProto& node : model.graph().node()) {
    if (node.op_type() != "LayerNormalization") continue;
    for (const AttributeProto& a : node.attribute()) {
      if (a.name() == "epsilon") {
        EXPECT_EQ(a.f(), 1e-12f);
      }
    }
  }
  const ModelProto without = parsed(text_graph(store, small_bert(), {}));
  expect_weights(without, store, {"text_model.pooler"});
  EXPECT_EQ(without.graph().output_size(), 1);
}

TEST(Onnx, VitEncoder) {
  ParamStore store(1);
  const Vit vit({store, "vision_model"}, small_vit(), true);
  const OnnxGraph graph = vision_graph(store, small_vit(), {.pooler = true});
  expect_values(graph, {image_input}, {"last_hidden_state (batch, 10, 8) float32", "pooler_output (batch, 8) float32"});
  const ModelProto model = parsed(graph);
  expect_weights(model, store);
  EXPECT_EQ(count(model, "LayerNormalization"), 2 * 2 + 1);
  EXPECT_EQ(count(model, "Conv"), 1);
}

TEST(Onnx, VitWithoutQueryBiasAndWithTheOtherGelu) {
  VitConfig config = small_vit();
  config.qkv_bias = false;
  config.hidden_act = "gelu_new";
  ParamStore store(1);
  const Vit vit({store, "vision_model"}, config, false);
  const ModelProto model = parsed(vision_graph(store, config, {}));
  expect_sound(model);
  expect_weights(model, store);
  EXPECT_EQ(count(model, "Erf"), 0);
  EXPECT_EQ(count(model, "Tanh"), 2);
}

TEST(Onnx, DualEncoderParts) {
  ParamStore store(1);
  const DualEncoder dual({store, ""}, small_dual());
  const OnnxHeads heads{.pooler = true, .projection = true};
  const OnnxGraph vision = vision_graph(store, small_vit(), heads), text = text_graph(store, small_bert(), heads);
  expect_values(vision, {image_input},
                {"last_hidden_state (batch, 10, 8) float32", "pooler_output (batch, 8) float32",
                 "image_embeds (batch, 5) float32"});
  expect_values(text, text_inputs,
                {"last_hidden_state (batch, sequence, 6) float32", "pooler_output (batch, 6) float32",
                 "text_embeds (batch, 5) float32"});
  expect_weights(parsed(vision), store, {"text_", "logit_scale"});
  expect_weights(parsed(text), store, {"vision_", "visual_", "logit_scale"});
  EXPECT_THROW(vision_graph(store, small_vit(), {.projection = true}), Error);
}

TEST(Onnx, Classifiers) {
  using Pooling = ClassifierConfig::TextPooling;
  for (const auto& [vision, text, pooling] : {std::tuple(true, true, Pooling::pooler),
                                              {true, true, Pooling::mean},
                                              {true, false, Pooling::pooler},
                                              {false, true, Pooling::pooler}}) {
    ClassifierConfig config = small_classifier(vision, text);
    config.text_pooling = pooling;
    ParamStore store(1);
    const Classifier classifier({store, ""}, config);
    const OnnxGraph graph = classifier_graph(store, config);
    std::vector<std::string> inputs;
    if (vision) inputs.push_back(image_input);
    if (text) inputs.insert(inputs.end(), text_inputs.begin(), text_inputs.end());
    expect_values(graph, inputs, {"logits (batch, 4) float32"});
    const ModelProto model = parsed(graph);
    expect_weights(model, store);
    ASSERT_EQ(model.metadata_props_size(), 1);
    EXPECT_EQ(model.metadata_props(0).key(), "labels");
    EXPECT_EQ(parse_json(model.metadata_props(0).value(), "labels"), Json(config.labels));
  }
}

// Directories: every kind, every part of it.
class OnnxDirectory : public ::testing::Test {
 protected:
  std::vector<std::string> outputs(std::optional<OnnxPart> part = {}) {
    const OnnxGraph graph = export_onnx(directory(), part ? *part : default_onnx_part(directory()));
    const ModelProto model = parsed(graph);
    expect_sound(model);
    std::vector<std::string> names;
    for (const auto& output : model.graph().output()) names.push_back(output.name());
    return names;
  }
  void save(const Json& config) { save_model_directory(directory(), store_, config); }
  std::string directory() const { return temporary_ / "model"; }

  TemporaryDirectory temporary_;
  ParamStore store_{1};
};

using Names = std::vector<std::string>;

TEST_F(OnnxDirectory, BareEncoder) {
  const Bert bert({store_, "text_model"}, small_bert(), true);
  save(small_bert().to_json());
  EXPECT_EQ(outputs(), (Names{"last_hidden_state", "pooler_output"}));
  expect_weights(parsed(export_onnx(directory(), OnnxPart::text)), store_);
  EXPECT_CONTAINS(message_of([&] { outputs(OnnxPart::vision); }), "has no vision encoder");
  EXPECT_CONTAINS(message_of([&] { outputs(OnnxPart::classifier); }), "is no classifier");
}

TEST_F(OnnxDirectory, MaskedLanguageModelIsItsEncoder) {
  const Bert bert({store_, "text_model"}, small_bert(), false);
  const MlmHead head({store_, "cls.predictions"}, bert);
  Json config = small_bert().to_json();
  config["architectures"] = {"BertForMaskedLM"};
  save(config);
  EXPECT_EQ(outputs(), Names{"last_hidden_state"});
  expect_weights(parsed(export_onnx(directory(), OnnxPart::text)), store_, {"cls."});
}

TEST_F(OnnxDirectory, DualEncoderNeedsAPart) {
  const DualEncoder dual({store_, ""}, small_dual());
  save(small_dual().to_json());
  EXPECT_CONTAINS(message_of([&] { outputs(); }), "--part vision or --part text");
  EXPECT_EQ(outputs(OnnxPart::vision), (Names{"last_hidden_state", "pooler_output", "image_embeds"}));
  EXPECT_EQ(outputs(OnnxPart::text), (Names{"last_hidden_state", "pooler_output", "text_embeds"}));
  EXPECT_CONTAINS(message_of([&] { outputs(OnnxPart::classifier); }), "is no classifier");
}

TEST_F(OnnxDirectory, MultimodalClassifierAndItsEncoders) {
  const Classifier classifier({store_, ""}, small_classifier(true, true));
  save(classifier.config().to_json());
  EXPECT_EQ(outputs(), Names{"logits"});
  EXPECT_EQ(outputs(OnnxPart::vision), Names{"last_hidden_state"});
  EXPECT_EQ(outputs(OnnxPart::text), (Names{"last_hidden_state", "pooler_output"}));
}

TEST_F(OnnxDirectory, MissingWeightsAreNamed) {
  EXPECT_CONTAINS(message_of([&] { outputs(); }), "is no model directory");
  const Bert bert({store_, "text_model"}, small_bert(), false);
  // Saved as a classifier, but without a head.
  save(small_classifier(false, true).to_json());
  EXPECT_CONTAINS(message_of([&] { outputs(); }),
                  "weights are missing: classifier.weight, classifier.bias, text_model.pooler.dense.weight");
  ParamStore half(1);
  const Bert other({half, "text_model"}, small_bert(), false);
  half.create("text_model.pooler.dense.weight", {6, 6}, Init::constant(0));
  save_model_directory(directory(), half, small_bert().to_json());
  EXPECT_CONTAINS(message_of([&] { outputs(OnnxPart::text); }), "a part of the pooler");
}

TEST(OnnxGraph, RefusesWhatWouldNotBeSound) {
  OnnxGraph graph("test");
  graph.input({"x", OnnxType::float32, {"batch", int64_t{2}}});
  EXPECT_CONTAINS(message_of([&] { graph.add("Tanh", {"y"}, "z"); }), "reads \"y\", which nothing has made");
  EXPECT_CONTAINS(message_of([&] { graph.input({"x", OnnxType::int64, {}}); }), "\"x\" is taken");
  EXPECT_CONTAINS(message_of([&] { graph.serialize(); }), "no output");
  EXPECT_CONTAINS(message_of([&] { graph.weight("w", Tensor::zeros({2}, DType::f64)); }), "must be float32");
  // Never touched, so these 2 GiB cost nothing.
  EXPECT_CONTAINS(message_of([&] { graph.weight("w", Tensor::empty({int64_t{1} << 29}, DType::f32)); }),
                  "an ONNX file holds at most 2 GiB");
}

TEST(OnnxGraph, ConstantsAreStoredOnceAndNotMixedUp) {
  OnnxGraph graph("test");
  const std::string half = graph.scalar(0.5f);
  EXPECT_EQ(graph.scalar(0.5f), half);
  // Six digits, as streams print them, do not tell these apart.
  EXPECT_NE(graph.scalar(0.1234567f), graph.scalar(0.1234568f));
  EXPECT_NE(graph.integer(1), graph.integers({1}));
  EXPECT_NE(graph.integers({1, 2}), graph.integers({12}));
  EXPECT_EQ(graph.integers({1, 2}), graph.integers({1, 2}));
}

}  // namespace
}  // namespace duet::models
