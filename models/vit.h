#pragma once

#include "duet/models/encoder.h"

namespace duet::models {

// Vision transformer (Dosovitskiy et al. 2021) with the structure of Hugging Face's ViTModel.
struct VitConfig : EncoderConfig {
  int64_t image_size = 224;
  int64_t patch_size = 16;
  int64_t num_channels = 3;
  bool qkv_bias = true;

  int64_t tokens() const { return (image_size / patch_size) * (image_size / patch_size) + 1; }
  // Of one image.
  double forward_flops() const { return forward_flops(Wanted::all_tokens, DeviceKind::cpu); }
  double forward_flops(Wanted wanted, DeviceKind on) const;
  static VitConfig from_json(const Json& json);
  Json to_json() const;
};

class Vit {
 public:
  Vit(const ParamScope& scope, const VitConfig& config, bool with_pooler);

  // images (B, C, H, W), H = W = image_size -> last hidden state (B, N + 1, D), after the final layer norm.
  // hidden_states are those before it, L + 1 tensors.
  Variable operator()(const Variable& images, const Run& run, std::vector<Variable>* hidden_states = nullptr) const;
  // The class token of that, (B, D); what it does not depend on is not computed.
  Variable class_token(const Variable& images, const Run& run) const;
  // tanh(W x + b) of class tokens: (B, D) -> (B, D). Throws Error for a model built without pooler.
  Variable pool(const Variable& class_token) const;
  const VitConfig& config() const { return config_; }

 private:
  Variable embed(const Variable& images, const Run& run) const;

  VitConfig config_;
  Variable class_token_, positions_, patch_weight_, patch_bias_;
  Encoder encoder_;
  LayerNorm norm_;
  std::vector<Linear> pooler_;  // none or one
};

}  // namespace duet::models
