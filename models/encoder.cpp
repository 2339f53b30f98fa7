#include "duet/models/encoder.h"

#include "duet/autograd/checkpoint.h"
#include "duet/ops/attention.h"
#include "duet/ops/dropout.h"
#include "duet/ops/elementwise.h"

namespace duet::models {

ops::Activation EncoderConfig::activation() const {
  if (hidden_act == "gelu") return ops::Activation::gelu;
  if (hidden_act == "gelu_new" || hidden_act == "gelu_pytorch_tanh") return ops::Activation::gelu_tanh;
  fail("config", "hidden_act \"", hidden_act, "\" is not supported; use gelu, gelu_new or gelu_pytorch_tanh");
}

void EncoderConfig::read(const Json& json) {
  hidden_size = json_get(json, "hidden_size", hidden_size);
  num_hidden_layers = json_get(json, "num_hidden_layers", num_hidden_layers);
  num_attention_heads = json_get(json, "num_attention_heads", num_attention_heads);
  intermediate_size = json_get(json, "intermediate_size", intermediate_size);
  hidden_act = json_get(json, "hidden_act", hidden_act);
  hidden_dropout_prob = json_get(json, "hidden_dropout_prob", hidden_dropout_prob);
  attention_probs_dropout_prob = json_get(json, "attention_probs_dropout_prob", attention_probs_dropout_prob);
  initializer_range = json_get(json, "initializer_range", initializer_range);
  layer_norm_eps = json_get(json, "layer_norm_eps", layer_norm_eps);
  check(hidden_size > 0 && num_hidden_layers >= 0 && intermediate_size > 0, "config",
        "sizes must be positive: hidden_size ", hidden_size, ", num_hidden_layers ", num_hidden_layers,
        ", intermediate_size ", intermediate_size);
  // Far above any model there is; a typing error must not ask for terabytes.
  check(num_hidden_layers <= 1000 && hidden_size <= 1 << 20 && intermediate_size <= 1 << 22, "config",
        "sizes are beyond what can be meant: hidden_size ", hidden_size, ", num_hidden_layers ", num_hidden_layers,
        ", intermediate_size ", intermediate_size);
  check(num_attention_heads > 0 && hidden_size % num_attention_heads == 0, "config", "hidden_size ", hidden_size,
        " does not divide into ", num_attention_heads, " attention heads");
  for (const auto& [name, p] : {std::pair("hidden_dropout_prob", hidden_dropout_prob),
                                {"attention_probs_dropout_prob", attention_probs_dropout_prob}})
    check(p >= 0 && p < 1, "config", name, " must be in [0, 1), got ", p);
  check(layer_norm_eps > 0 && initializer_range >= 0, "config",
        "layer_norm_eps must be positive and initializer_range not negative, got ", layer_norm_eps, " and ",
        initializer_range);
  activation();
}

void EncoderConfig::write(Json& json) const {
  json["hidden_size"] = hidden_size;
  json["num_hidden_layers"] = num_hidden_layers;
  json["num_attention_heads"] = num_attention_heads;
  json["intermediate_size"] = intermediate_size;
  json["hidden_act"] = hidden_act;
  json["hidden_dropout_prob"] = hidden_dropout_prob;
  json["attention_probs_dropout_prob"] = attention_probs_dropout_prob;
  json["initializer_range"] = initializer_range;
  json["layer_norm_eps"] = layer_norm_eps;
}

double EncoderConfig::forward_flops(int64_t tokens, Wanted wanted, DeviceKind on) const {
  const auto t = static_cast<double>(tokens), d = static_cast<double>(hidden_size);
  const double query = 2 * d * d + 4 * t * d;  // its projection, scores and context
  const double output = 2 * d * (d + 2 * static_cast<double>(intermediate_size));
  const double keys = 2 * t * d * 2 * d;
  const auto layers = static_cast<double>(num_hidden_layers);
  const double left_out = wanted == Wanted::class_token && num_hidden_layers > 0 ? t - 1 : 0;
  return layers * (keys + t * (query + output)) - left_out * (output + (on == DeviceKind::cpu ? query : 0));
}

namespace {

Variable class_token_of(const Variable& x, const Padding& padding) {
  return padding.packing.defined() ? padding.packing.first_token(x) : first_token(x);
}

}  // namespace

EncoderLayer::EncoderLayer(const ParamScope& scope, const EncoderConfig& config, NormPlacement placement, bool qkv_bias)
    : config_(config),
      placement_(placement),
      qkv_(scope / "attention.qkv", config.hidden_size, 3 * config.hidden_size, Init::normal(config.initializer_range),
           qkv_bias),
      attention_output_(scope / "attention.output.dense", config.hidden_size, config.hidden_size,
                        Init::normal(config.initializer_range)),
      intermediate_(scope / "intermediate.dense", config.hidden_size, config.intermediate_size,
                    Init::normal(config.initializer_range)),
      output_(scope / "output.dense", config.intermediate_size, config.hidden_size,
              Init::normal(config.initializer_range)),
      attention_norm_(scope / (placement == NormPlacement::pre ? "layernorm_before" : "attention.output.LayerNorm"),
                      config.hidden_size, config.layer_norm_eps),
      output_norm_(scope / (placement == NormPlacement::pre ? "layernorm_after" : "output.LayerNorm"),
                   config.hidden_size, config.layer_norm_eps) {}

Variable EncoderLayer::attend(const Variable& x, const Padding& padding, const Run& run, Wanted wanted) const {
  ops::AttentionOptions options{.heads = config_.num_attention_heads,
                                .dropout = run.dropout(config_.attention_probs_dropout_prob),
                                .random = run.random.child("attention")};
  if (padding.packing.defined()) {
    options.starts = padding.packing.starts;
    options.longest = padding.packing.tokens;
  } else {
    options.key_mask = padding.mask;
    options.padding_at_end = padding.at_end;
  }
  const bool all = wanted == Wanted::all_tokens;
  const auto mix = [&] {
    if (all) return ops::attention(qkv_(x), options);
    // On a GPU the kernels have the queries of all tokens.
    if (x.data().device().kind == DeviceKind::cuda) return class_token_of(ops::attention(qkv_(x), options), padding);
    if (padding.packing.defined()) options.starts = options.starts.rows_view(0, padding.packing.texts + 1);
    return ops::class_attention(x, qkv_.weight, qkv_.bias, options);
  };
  return ops::dropout(attention_output_(mix()), run.dropout(config_.hidden_dropout_prob),
                      run.random.child("attention.output"), all ? padding.packing.rows : Tensor());
}

// Rows are those of a larger matrix, as dropout takes them.
Variable EncoderLayer::feed_forward(const Variable& x, const Run& run, const Tensor& rows) const {
  return ops::dropout(ops::feed_forward(x, intermediate_.weight, intermediate_.bias, config_.activation(),
                                        output_.weight, output_.bias),
                      run.dropout(config_.hidden_dropout_prob), run.random.child("output"), rows);
}

Variable EncoderLayer::operator()(const Variable& x, const Padding& padding, const Run& run, Wanted wanted) const {
  const bool all = wanted == Wanted::all_tokens;
  const bool pre = placement_ == NormPlacement::pre;
  const Variable attended = attend(pre ? attention_norm_(x) : x, padding, run, wanted);
  const Tensor rows = all ? padding.packing.rows : Tensor();
  const auto add_and_normalise = [&](const LayerNorm& norm) {
    // The gradient of an op's first input is followed first. That of the class token is to be there when x's other use
    // has its own, which adds to it.
    return all ? norm.add(attended, x) : norm.add(class_token_of(x, padding), attended);
  };
  if (pre) {
    const auto [sum, normalised] = add_and_normalise(output_norm_);
    return ops::add(sum, feed_forward(normalised, run, rows));
  }
  const Variable between = add_and_normalise(attention_norm_).normalised;
  return output_norm_.add(feed_forward(between, run, rows), between).normalised;
}

Encoder::Encoder(const ParamScope& scope, const EncoderConfig& config, NormPlacement placement, bool qkv_bias) {
  for (int64_t i = 0; i < config.num_hidden_layers; ++i)
    layers_.emplace_back(scope / "layer" / std::to_string(i), config, placement, qkv_bias);
}

Variable Encoder::run_layer(size_t i, const Variable& x, const Padding& padding, const Run& run, Wanted wanted) const {
  const auto segment = [&layer = layers_[i], padding, layer_run = run.child(i),
                        wanted](const std::vector<Variable>& in) { return layer(in[0], padding, layer_run, wanted); };
  return run.recompute ? recompute(segment, {x}) : segment({x});
}

Variable Encoder::operator()(Variable x, const Padding& padding, const Run& run,
                             std::vector<Variable>* hidden_states) const {
  if (hidden_states) hidden_states->push_back(x);
  for (size_t i = 0; i < layers_.size(); ++i) {
    x = run_layer(i, x, padding, run, Wanted::all_tokens);
    if (hidden_states) hidden_states->push_back(x);
  }
  return x;
}

Variable Encoder::class_token(Variable x, const Padding& padding, const Run& run) const {
  for (size_t i = 0; i + 1 < layers_.size(); ++i) x = run_layer(i, x, padding, run, Wanted::all_tokens);
  return layers_.empty() ? class_token_of(x, padding)
                         : run_layer(layers_.size() - 1, x, padding, run, Wanted::class_token);
}

}  // namespace duet::models
