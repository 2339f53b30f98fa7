#include "duet/models/dual_encoder.h"

#include <algorithm>
#include <cmath>

#include "duet/ops/cross_entropy.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/exp.h"
#include "duet/ops/l2_normalize.h"
#include "duet/ops/matmul.h"

namespace duet::models {
namespace {

// PyTorch's default for linear layers: U(-1/sqrt(in), 1/sqrt(in)).
Init projection_init(int64_t in) {
  return Init::uniform(1 / std::sqrt(static_cast<double>(in)));
}

}  // namespace

DualEncoderConfig DualEncoderConfig::from_json(const Json& json) {
  for (const char* part : {"vision_config", "text_config"})
    check(json.contains(part) && json[part].is_object(), "config", "a dual encoder needs ", part);
  const auto vision_type = json_get<std::string>(json["vision_config"], "model_type", "");
  const auto text_type = json_get<std::string>(json["text_config"], "model_type", "");
  check(vision_type == "vit" && text_type == "bert", "config", "dual encoder of ", vision_type, " and ", text_type,
        " is not supported; vit and bert are");
  DualEncoderConfig c;
  c.vision = VitConfig::from_json(json["vision_config"]);
  c.text = BertConfig::from_json(json["text_config"]);
  c.projection_dim = json_get(json, "projection_dim", c.projection_dim);
  c.logit_scale_init_value = json_get(json, "logit_scale_init_value", c.logit_scale_init_value);
  check(c.projection_dim > 0, "config", "projection_dim must be positive, got ", c.projection_dim);
  return c;
}

Json DualEncoderConfig::to_json() const {
  return {{"architectures", {"VisionTextDualEncoderModel"}},
          {"model_type", "vision-text-dual-encoder"},
          {"projection_dim", projection_dim},
          {"logit_scale_init_value", logit_scale_init_value},
          {"vision_config", vision.to_json()},
          {"text_config", text.to_json()}};
}

DualEncoder::DualEncoder(const ParamScope& scope, const DualEncoderConfig& config)
    : config_(config),
      vision_(scope / "vision_model", config.vision, true),
      text_(scope / "text_model", config.text, true),
      visual_projection_(scope / "visual_projection", config.vision.hidden_size, config.projection_dim,
                         projection_init(config.vision.hidden_size), false),
      text_projection_(scope / "text_projection", config.text.hidden_size, config.projection_dim,
                       projection_init(config.text.hidden_size), false),
      logit_scale_(scope.create("logit_scale", {}, Init::constant(config.logit_scale_init_value))) {}

Variable DualEncoder::image_features(const Variable& images, const Run& run) const {
  return ops::l2_normalize(visual_projection_(widen(vision_.pool(vision_.class_token(images, run.child(0))))));
}

Variable DualEncoder::text_features(const TextInput& text, const Run& run) const {
  return ops::l2_normalize(text_projection_(widen(text_.pool(text_.class_token(text, run.child(1))))));
}

Variable DualEncoder::logits_per_text(const Variable& text_features, const Variable& image_features) const {
  return ops::multiply(ops::matmul(text_features, image_features, false, true), ops::exp(logit_scale_));
}

Variable DualEncoder::loss(const Variable& text_features, const Variable& image_features) const {
  check(text_features.dim(0) == image_features.dim(0), "info_nce", text_features.dim(0), " texts and ",
        image_features.dim(0), " images; pairs are needed");
  const Tensor labels = Tensor::arange(text_features.dim(0), text_features.data().device());
  const Variable per_text = logits_per_text(text_features, image_features);
  const Variable per_image =
      ops::multiply(ops::matmul(image_features, text_features, false, true), ops::exp(logit_scale_));
  return ops::scale(ops::add(ops::cross_entropy(per_text, labels), ops::cross_entropy(per_image, labels)), 0.5);
}

void DualEncoder::clamp_logit_scale() {
  logit_scale_.data().fill(std::clamp(logit_scale_.data().item(), 0.0, std::log(100.0)));
}

}  // namespace duet::models
