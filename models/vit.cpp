#include "duet/models/vit.h"

#include "duet/ops/dropout.h"
#include "duet/ops/patch_embedding.h"
#include "duet/ops/tanh.h"

namespace duet::models {
namespace {

// A side length that newer files may give as [height, width].
int64_t square_side(const Json& json, const char* key, int64_t fallback) {
  if (!json.contains(key) || !json[key].is_array()) return json_get(json, key, fallback);
  const Json& sides = json[key];
  check(sides.size() == 2 && sides[0] == sides[1] && sides[0].is_number(), "config", key, " ", sides.dump(),
        " is not supported; height and width must be equal");
  return json_get(Json{{key, sides[0]}}, key, fallback);
}

}  // namespace

double VitConfig::forward_flops(Wanted wanted, DeviceKind on) const {
  const auto patch_values = static_cast<double>(num_channels * patch_size * patch_size);
  const double patches = 2 * static_cast<double>((tokens() - 1) * hidden_size) * patch_values;
  return EncoderConfig::forward_flops(tokens(), wanted, on) + patches;
}

VitConfig VitConfig::from_json(const Json& json) {
  VitConfig c;
  c.read(json);
  c.image_size = square_side(json, "image_size", c.image_size);
  c.patch_size = square_side(json, "patch_size", c.patch_size);
  c.num_channels = json_get(json, "num_channels", c.num_channels);
  c.qkv_bias = json_get(json, "qkv_bias", c.qkv_bias);
  check(c.patch_size > 0 && c.image_size > 0 && c.image_size % c.patch_size == 0, "config", "image_size ", c.image_size,
        " does not divide into patches of ", c.patch_size);
  check(c.num_channels > 0, "config", "num_channels must be positive, got ", c.num_channels);
  const auto activation = json_get<std::string>(json, "pooler_act", "tanh");
  check(activation == "tanh", "config", "pooler_act \"", activation, "\" is not supported; use tanh");
  const auto pooled = json_get(json, "pooler_output_size", c.hidden_size);
  check(pooled == c.hidden_size, "config", "pooler_output_size ", pooled, " is not supported; it must be hidden_size ",
        c.hidden_size);
  return c;
}

Json VitConfig::to_json() const {
  Json json{{"model_type", "vit"}};
  write(json);
  json["image_size"] = image_size;
  json["patch_size"] = patch_size;
  json["num_channels"] = num_channels;
  json["qkv_bias"] = qkv_bias;
  return json;
}

Vit::Vit(const ParamScope& scope, const VitConfig& config, bool with_pooler)
    : config_(config),
      class_token_(
          scope.create("embeddings.cls_token", {1, 1, config.hidden_size}, Init::normal(config.initializer_range))),
      positions_(scope.create("embeddings.position_embeddings", {1, config.tokens(), config.hidden_size},
                              Init::normal(config.initializer_range))),
      patch_weight_(scope.create("embeddings.patch_embeddings.projection.weight",
                                 {config.hidden_size, config.num_channels, config.patch_size, config.patch_size},
                                 Init::normal(config.initializer_range))),
      patch_bias_(scope.create("embeddings.patch_embeddings.projection.bias", {config.hidden_size}, Init::constant(0))),
      encoder_(scope / "encoder", config, NormPlacement::pre, config.qkv_bias),
      norm_(scope / "layernorm", config.hidden_size, config.layer_norm_eps) {
  if (with_pooler)
    pooler_.emplace_back(scope / "pooler.dense", config.hidden_size, config.hidden_size,
                         Init::normal(config.initializer_range));
}

Variable Vit::embed(const Variable& images, const Run& run) const {
  check(images.rank() == 4 && images.dim(2) == config_.image_size && images.dim(3) == config_.image_size, "vit",
        "images must be (B, ", config_.num_channels, ", ", config_.image_size, ", ", config_.image_size, "), got ",
        images);
  const Variable x = ops::patch_embedding(run.activation(images), patch_weight_, patch_bias_, class_token_, positions_);
  return ops::dropout(x, run.dropout(config_.hidden_dropout_prob), run.random.child("embeddings"));
}

Variable Vit::operator()(const Variable& images, const Run& run, std::vector<Variable>* hidden_states) const {
  return norm_(encoder_(embed(images, run), {}, run, hidden_states));
}

Variable Vit::class_token(const Variable& images, const Run& run) const {
  return norm_(encoder_.class_token(embed(images, run), {}, run));
}

Variable Vit::pool(const Variable& class_token) const {
  check(!pooler_.empty(), "vit", "this model was built without a pooler");
  check(class_token.rank() == 2, "vit", "the pooler takes class tokens (B, D), got ", class_token);
  return ops::tanh(pooler_[0](class_token));
}

}  // namespace duet::models
