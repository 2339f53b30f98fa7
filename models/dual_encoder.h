#pragma once

#include "duet/models/bert.h"
#include "duet/models/vit.h"

namespace duet::models {

struct DualEncoderConfig {
  VitConfig vision;
  BertConfig text;
  int64_t projection_dim = 512;
  double logit_scale_init_value = 2.6592;  // ln(1 / 0.07)

  static DualEncoderConfig from_json(const Json& json);
  Json to_json() const;
};

// Two encoders trained so that an image and its text get similar vectors (CLIP, Radford et al. 2021), with the
// structure of Hugging Face's VisionTextDualEncoderModel.
class DualEncoder {
 public:
  DualEncoder(const ParamScope& scope, const DualEncoderConfig& config);

  // Unit vectors (B, projection_dim).
  Variable image_features(const Variable& images, const Run& run) const;
  Variable text_features(const TextInput& text, const Run& run) const;
  // exp(logit_scale) text_features image_features^T: (B, B), rows are texts.
  Variable logits_per_text(const Variable& text_features, const Variable& image_features) const;
  // Symmetric InfoNCE over the pairs of a batch: the mean of both directions' cross entropies.
  Variable loss(const Variable& text_features, const Variable& image_features) const;
  // Keeps the logit scale within [0, ln 100], as CLIP does after every step.
  void clamp_logit_scale();

  const DualEncoderConfig& config() const { return config_; }
  const Vit& vision() const { return vision_; }
  const Bert& text() const { return text_; }

 private:
  DualEncoderConfig config_;
  Vit vision_;
  Bert text_;
  Linear visual_projection_, text_projection_;
  Variable logit_scale_;
};

}  // namespace duet::models
