#include "duet/models/onnx_export.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "duet/models/hub.h"

namespace duet::models {
namespace {

using Name = std::string;

// The mirror of models/*.cpp: each function adds to the graph what the class of its name computes, on the parameters
// under `path`.
class Writer {
 public:
  Writer(OnnxGraph& graph, ParamStore& store) : graph_(graph), store_(store) {}

  // pixel_values -> last hidden state (B, N + 1, D)
  Name vit(const VitConfig& c);
  // input_ids, attention_mask, token_type_ids -> last hidden state (B, T, D)
  Name bert(const BertConfig& c);
  // x[:, 0]: (B, T, D) -> (B, D)
  Name first_token(const Name& x, const Name& path) {
    return graph_.add("Gather", {x, graph_.integer(0)}, path + ".first_token", {{"axis", int64_t{1}}});
  }
  Name pool(const Name& hidden, const Name& path) {
    return graph_.add("Tanh", {matrix_linear(first_token(hidden, path), path + ".pooler.dense")}, path + ".pooler");
  }
  // Mean over the tokens of input attention_mask; over all when it is zero throughout: (B, T, D) -> (B, D)
  Name mean_tokens(const Name& hidden, const Name& path) {
    const Name mask =
        graph_.add("Cast", {"attention_mask"}, path + ".mean.mask", {{"to", onnx_type_number(OnnxType::float32)}});
    const Name any = graph_.add("ReduceMax", {mask}, path + ".mean.any", {{"axes", std::vector<int64_t>{1}}});
    const Name some = graph_.add("Cast", {any}, path + ".mean.some", {{"to", onnx_type_number(OnnxType::boolean)}});
    const Name shares = graph_.add("Where", {some, mask, graph_.scalar(1)}, path + ".mean.shares");
    const Name count = graph_.add("ReduceSum", {shares, graph_.integers({1})}, path + ".mean.count");
    const Name row =
        graph_.add("Unsqueeze", {graph_.add("Div", {shares, count}, path + ".mean.weights"), graph_.integers({1})},
                   path + ".mean.row");
    const Name sum = graph_.add("MatMul", {row, hidden}, path + ".mean.sum");
    return graph_.add("Squeeze", {sum, graph_.integers({1})}, path + ".mean");
  }
  // x (B, in) -> (B, out); the bias may be absent.
  Name matrix_linear(const Name& x, const Name& path) {
    std::vector<Name> inputs{x, weight(path + ".weight")};
    if (store_.contains(path + ".bias")) inputs.push_back(weight(path + ".bias"));
    return graph_.add("Gemm", inputs, path, {{"transB", int64_t{1}}});
  }
  int64_t rows_of(const Name& parameter) { return store_.at(parameter).dim(0); }
  Name l2_normalize(const Name& x) {
    const Name norm = graph_.add("ReduceL2", {x}, x + ".norm", {{"axes", std::vector<int64_t>{-1}}});
    const Name guarded = graph_.add("Max", {norm, graph_.scalar(1e-12f)}, x + ".guarded_norm");
    return graph_.add("Div", {x, guarded}, x + ".unit");
  }

 private:
  Name weight(const Name& name) { return graph_.weight(name, store_.at(name).data()); }
  // x (B, T, in) -> (B, T, out)
  Name linear(const Name& x, const Name& path);
  Name layer_norm(const Name& x, const Name& path, double eps);
  Name gelu(const Name& x, ops::Activation activation);
  // score_bias (B, 1, 1, T) is added to the scores; empty = none.
  Name attention(const Name& x, const Name& path, const EncoderConfig& c, const Name& score_bias);
  Name encoder(Name x, const Name& path, const EncoderConfig& c, NormPlacement placement, const Name& score_bias);

  OnnxGraph& graph_;
  ParamStore& store_;
};

Name Writer::linear(const Name& x, const Name& path) {
  // Runtimes transpose once, when they load the file.
  const Name transposed = graph_.add("Transpose", {weight(path + ".weight")}, path + ".weight.transposed",
                                     {{"perm", std::vector<int64_t>{1, 0}}});
  const bool bias = store_.contains(path + ".bias");
  const Name product = graph_.add("MatMul", {x, transposed}, bias ? path + ".product" : path);
  return bias ? graph_.add("Add", {product, weight(path + ".bias")}, path) : product;
}

Name Writer::layer_norm(const Name& x, const Name& path, double eps) {
  return graph_.add("LayerNormalization", {x, weight(path + ".weight"), weight(path + ".bias")}, path,
                    {{"axis", int64_t{-1}}, {"epsilon", static_cast<float>(eps)}});
}

// See ops/gelu.h: x/2 (1 + erf(x / sqrt 2)), or x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
Name Writer::gelu(const Name& x, ops::Activation activation) {
  Name bell;
  if (activation == ops::Activation::gelu) {
    bell = graph_.add("Erf", {graph_.add("Div", {x, graph_.scalar(std::sqrt(2.0f))}, x + ".scaled")}, x + ".erf");
  } else {
    check(activation == ops::Activation::gelu_tanh, "onnx", x, ": this activation cannot be exported");
    const Name cube = graph_.add("Mul", {graph_.add("Mul", {x, x}, x + ".square"), x}, x + ".cube");
    const Name small = graph_.add("Mul", {cube, graph_.scalar(0.044715f)}, x + ".small_cube");
    const Name scaled =
        graph_.add("Mul", {graph_.add("Add", {x, small}, x + ".sum"), graph_.scalar(0.7978845608f)}, x + ".scaled");
    bell = graph_.add("Tanh", {scaled}, x + ".tanh");
  }
  const Name weighted = graph_.add("Mul", {x, graph_.add("Add", {bell, graph_.scalar(1)}, x + ".bell")}, x + ".twice");
  return graph_.add("Mul", {weighted, graph_.scalar(0.5f)}, x + ".gelu");
}

Name Writer::attention(const Name& x, const Name& path, const EncoderConfig& c, const Name& score_bias) {
  const std::vector<Name> parts = graph_.add_many(
      "Split", {linear(x, path + ".qkv")}, {path + ".query", path + ".key", path + ".value"}, {{"axis", int64_t{-1}}});
  const int64_t heads = c.num_attention_heads, head_size = c.hidden_size / heads;
  // (B, T, C) -> (B, H, T, C / H), keys (B, H, C / H, T). A 0 in Reshape keeps the size.
  const auto split_heads = [&](const Name& part, const std::vector<int64_t>& order) {
    const Name split = graph_.add("Reshape", {part, graph_.integers({0, 0, heads, head_size})}, part + ".split");
    return graph_.add("Transpose", {split}, part + ".heads", {{"perm", order}});
  };
  const Name query = split_heads(parts[0], {0, 2, 1, 3}), key = split_heads(parts[1], {0, 2, 3, 1}),
             value = split_heads(parts[2], {0, 2, 1, 3});
  const Name products = graph_.add("MatMul", {query, key}, path + ".products");
  Name scores =
      graph_.add("Mul", {products, graph_.scalar(1 / std::sqrt(static_cast<float>(head_size)))}, path + ".scores");
  if (!score_bias.empty()) scores = graph_.add("Add", {scores, score_bias}, path + ".masked_scores");
  const Name probabilities = graph_.add("Softmax", {scores}, path + ".probabilities", {{"axis", int64_t{-1}}});
  const Name context = graph_.add("Transpose", {graph_.add("MatMul", {probabilities, value}, path + ".context.heads")},
                                  path + ".context.tokens", {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  const Name merged = graph_.add("Reshape", {context, graph_.integers({0, 0, c.hidden_size})}, path + ".context");
  return linear(merged, path + ".output.dense");
}

Name Writer::encoder(Name x, const Name& path, const EncoderConfig& c, NormPlacement placement,
                     const Name& score_bias) {
  const bool pre = placement == NormPlacement::pre;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const Name layer = path + ".layer." + std::to_string(i), attention_path = layer + ".attention";
    const auto feed_forward = [&](const Name& in) {
      return linear(gelu(linear(in, layer + ".intermediate.dense"), c.activation()), layer + ".output.dense");
    };
    if (pre) {
      const Name normalised = layer_norm(x, layer + ".layernorm_before", c.layer_norm_eps);
      const Name sum =
          graph_.add("Add", {attention(normalised, attention_path, c, score_bias), x}, attention_path + ".sum");
      x = graph_.add("Add", {sum, feed_forward(layer_norm(sum, layer + ".layernorm_after", c.layer_norm_eps))}, layer);
    } else {
      const Name sum = graph_.add("Add", {attention(x, attention_path, c, score_bias), x}, attention_path + ".sum");
      const Name attended = layer_norm(sum, attention_path + ".output.LayerNorm", c.layer_norm_eps);
      x = layer_norm(graph_.add("Add", {feed_forward(attended), attended}, layer + ".sum"), layer + ".output.LayerNorm",
                     c.layer_norm_eps);
    }
  }
  return x;
}

Name Writer::vit(const VitConfig& c) {
  const Name path = "vision_model", embeddings = path + ".embeddings";
  const Name pixels =
      graph_.input({"pixel_values", OnnxType::float32, {"batch", c.num_channels, c.image_size, c.image_size}});
  const Name projection = embeddings + ".patch_embeddings.projection";
  const std::vector<int64_t> patch{c.patch_size, c.patch_size};
  const Name grid = graph_.add("Conv", {pixels, weight(projection + ".weight"), weight(projection + ".bias")},
                               projection, {{"kernel_shape", patch}, {"strides", patch}});
  // (B, D, rows, columns) -> (B, N, D)
  const Name columns =
      graph_.add("Reshape", {grid, graph_.integers({0, c.hidden_size, c.tokens() - 1})}, embeddings + ".patch_columns");
  const Name patches =
      graph_.add("Transpose", {columns}, embeddings + ".patches", {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const Name batch = graph_.add("Shape", {pixels}, "batch_size", {{"start", int64_t{0}}, {"end", int64_t{1}}});
  const Name class_shape = graph_.add("Concat", {batch, graph_.integers({1, c.hidden_size})},
                                      embeddings + ".class_shape", {{"axis", int64_t{0}}});
  const Name class_tokens =
      graph_.add("Expand", {weight(embeddings + ".cls_token"), class_shape}, embeddings + ".class_tokens");
  const Name tokens = graph_.add("Concat", {class_tokens, patches}, embeddings + ".tokens", {{"axis", int64_t{1}}});
  const Name x = graph_.add("Add", {tokens, weight(embeddings + ".position_embeddings")}, embeddings);
  return layer_norm(encoder(x, path + ".encoder", c, NormPlacement::pre, ""), path + ".layernorm", c.layer_norm_eps);
}

Name Writer::bert(const BertConfig& c) {
  const Name path = "text_model", embeddings = path + ".embeddings";
  const auto sequence_input = [&](const char* name) {
    return graph_.input({name, OnnxType::int64, {"batch", "sequence"}});
  };
  const Name ids = sequence_input("input_ids"), mask = sequence_input("attention_mask"),
             types = sequence_input("token_type_ids");
  const Name words = graph_.add("Gather", {weight(embeddings + ".word_embeddings.weight"), ids}, embeddings + ".words");
  const Name kinds =
      graph_.add("Gather", {weight(embeddings + ".token_type_embeddings.weight"), types}, embeddings + ".types");
  // The positions of as many tokens as there are, (T, D).
  const Name length = graph_.add("Shape", {ids}, "sequence_length", {{"start", int64_t{1}}, {"end", int64_t{2}}});
  const Name positions = graph_.add(
      "Slice", {weight(embeddings + ".position_embeddings.weight"), graph_.integers({0}), length, graph_.integers({0})},
      embeddings + ".positions");
  const Name sum = graph_.add("Add", {graph_.add("Add", {words, kinds}, embeddings + ".words_and_types"), positions},
                              embeddings + ".sum");
  const Name x = layer_norm(sum, embeddings + ".LayerNorm", c.layer_norm_eps);
  // Padding gets the lowest finite score, (B, 1, 1, T): probability 0 beside any token, and an even share, not NaN,
  // when all is padding (a score of usual size vanishes beside it).
  const Name attended = graph_.add("Cast", {graph_.add("Unsqueeze", {mask, graph_.integers({1, 2})}, "mask.expanded")},
                                   "mask.attended", {{"to", onnx_type_number(OnnxType::boolean)}});
  const Name score_bias = graph_.add(
      "Where", {attended, graph_.scalar(0), graph_.scalar(std::numeric_limits<float>::lowest())}, "mask.score_bias");
  return encoder(x, path + ".encoder", c, NormPlacement::post, score_bias);
}

// The names of one encoder's parameters and outputs.
struct Side {
  Name encoder, projection, embeds;
};
const Side vision_side{"vision_model", "visual_projection", "image_embeds"};
const Side text_side{"text_model", "text_projection", "text_embeds"};

// `tokens` is the middle size of last_hidden_state.
void encoder_outputs(OnnxGraph& graph, Writer& writer, const Name& hidden, const OnnxSize& tokens, int64_t width,
                     const OnnxHeads& heads, const Side& side) {
  graph.output({"last_hidden_state", OnnxType::float32, {"batch", tokens, width}}, hidden);
  check(heads.pooler || !heads.projection, "onnx", "a projection needs the pooler");
  if (!heads.pooler) return;
  const Name pooled = writer.pool(hidden, side.encoder);
  graph.output({"pooler_output", OnnxType::float32, {"batch", width}}, pooled);
  if (!heads.projection) return;
  const Name projected = writer.matrix_linear(pooled, side.projection);
  graph.output({side.embeds, OnnxType::float32, {"batch", writer.rows_of(side.projection + ".weight")}},
               writer.l2_normalize(projected));
}

std::string architecture(const Json& config) {
  const auto names = json_get(config, "architectures", std::vector<std::string>());
  return names.empty() ? "" : names[0];
}

bool is_classifier(const Json& config) {
  const std::string name = architecture(config);
  return name == "ViTForImageClassification" || name == "BertForSequenceClassification" ||
         name == "DuetMultimodalClassifier";
}

bool is_dual_encoder(const Json& config) {
  return json_get<std::string>(config, "model_type", "") == "vision-text-dual-encoder";
}

}  // namespace

std::string_view name_of(OnnxPart part) {
  return part == OnnxPart::classifier ? "classifier" : part == OnnxPart::vision ? "vision" : "text";
}

OnnxGraph classifier_graph(ParamStore& store, const ClassifierConfig& config) {
  OnnxGraph graph("classifier");
  Writer writer(graph, store);
  std::vector<Name> parts;
  if (config.vision) parts.push_back(writer.first_token(writer.vit(*config.vision), vision_side.encoder));
  if (config.text) {
    const Name hidden = writer.bert(*config.text);
    const bool mean = config.text_pooling == ClassifierConfig::TextPooling::mean;
    parts.push_back(mean ? writer.mean_tokens(hidden, text_side.encoder) : writer.pool(hidden, text_side.encoder));
  }
  check(!parts.empty(), "onnx", "a classifier needs a vision part, a text part, or both");
  const Name joined =
      parts.size() == 1 ? parts[0] : graph.add("Concat", parts, "classifier.input", {{"axis", int64_t{1}}});
  graph.output({"logits", OnnxType::float32, {"batch", static_cast<int64_t>(config.labels.size())}},
               writer.matrix_linear(joined, "classifier"));
  graph.metadata("labels", Json(config.labels).dump(-1, ' ', false, Json::error_handler_t::replace));
  return graph;
}

OnnxGraph vision_graph(ParamStore& store, const VitConfig& config, const OnnxHeads& heads) {
  OnnxGraph graph("vision");
  Writer writer(graph, store);
  encoder_outputs(graph, writer, writer.vit(config), config.tokens(), config.hidden_size, heads, vision_side);
  return graph;
}

OnnxGraph text_graph(ParamStore& store, const BertConfig& config, const OnnxHeads& heads) {
  OnnxGraph graph("text");
  Writer writer(graph, store);
  encoder_outputs(graph, writer, writer.bert(config), "sequence", config.hidden_size, heads, text_side);
  return graph;
}

OnnxPart default_onnx_part(const std::string& directory) {
  const Json config = read_model_config(directory);
  if (is_classifier(config)) return OnnxPart::classifier;
  const bool vision = !encoder_config(config, true).is_null(), text = !encoder_config(config, false).is_null();
  check(!vision || !text, "onnx", directory, " holds two encoders; choose one with --part vision or --part text");
  check(vision || text, "onnx", directory, ": model_type \"", json_get<std::string>(config, "model_type", ""),
        "\" cannot be exported; vit, bert, vision-text-dual-encoder and duet-multimodal-classifier can");
  return vision ? OnnxPart::vision : OnnxPart::text;
}

OnnxGraph export_onnx(const std::string& directory, OnnxPart part) {
  const Json config = read_model_config(directory);
  ParamStore store(0, DType::f32, false);
  if (part == OnnxPart::classifier) {
    check(is_classifier(config), "onnx", directory, " is no classifier (its architecture is \"", architecture(config),
          "\"); export an encoder with --part vision or --part text");
    const auto c = ClassifierConfig::from_json(config);
    const Classifier model({store, ""}, c);
    // Exact: a layer before the head that the graph leaves out would change the logits.
    load_parameters(store, directory, {.strictness = Strictness::exact});
    return classifier_graph(store, c);
  }
  const bool vision = part == OnnxPart::vision;
  const Json encoder = encoder_config(config, vision);
  check(!encoder.is_null(), "onnx", directory, " has no ", name_of(part), " encoder");
  OnnxHeads heads{.projection = is_dual_encoder(config)};
  // Only for their parameters.
  std::optional<Vit> vit;
  std::optional<Bert> bert;
  if (vision)
    vit.emplace(ParamScope(store, vision_side.encoder), VitConfig::from_json(encoder), true);
  else
    bert.emplace(ParamScope(store, text_side.encoder), BertConfig::from_json(encoder), true);
  if (heads.projection)
    Linear(ParamScope(store, (vision ? vision_side : text_side).projection),
           vision ? vit->config().hidden_size : bert->config().hidden_size,
           DualEncoderConfig::from_json(config).projection_dim, Init::constant(0), false);
  heads.pooler = load_encoder(store, directory);
  return vision ? vision_graph(store, vit->config(), heads) : text_graph(store, bert->config(), heads);
}

}  // namespace duet::models
