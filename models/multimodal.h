#pragma once

#include <optional>

#include "duet/models/bert.h"
#include "duet/models/vit.h"

namespace duet::models {

// A classifier over an image, a text, or both. Without one of the parts it is the image-only or text-only baseline.
struct ClassifierConfig {
  std::optional<VitConfig> vision;
  std::optional<BertConfig> text;
  std::vector<std::string> labels;
  double head_dropout = 0;
  // Of a classifier over both: BERT's pooler, or the mean of the last hidden state over the tokens that are no padding,
  // as sentence encoders are trained for.
  enum class TextPooling { pooler, mean } text_pooling = TextPooling::pooler;

  static ClassifierConfig from_json(const Json& json);
  // Layout of Hugging Face: ViTForImageClassification, BertForSequenceClassification, or our own for both.
  Json to_json() const;
};

// logits = fc(concat(V(image)[CLS], pooler(T(text)))): (B, Dv + Dt) -> (B, num_labels). Following Hugging Face, vision
// contributes the class token after the final layer norm, text the tanh pooler's output (or see TextPooling).
class Classifier {
 public:
  Classifier(const ParamScope& scope, const ClassifierConfig& config);

  // images (B, C, H, W) and text; the input of an absent part is ignored. -> (B, num_labels)
  Variable operator()(const Variable& images, const TextInput& text, const Run& run) const;
  const ClassifierConfig& config() const { return config_; }
  const Vit* vision() const { return vision_.empty() ? nullptr : &vision_[0]; }
  const Bert* text() const { return text_.empty() ? nullptr : &text_[0]; }

 private:
  ClassifierConfig config_;
  std::vector<Vit> vision_;  // none or one
  std::vector<Bert> text_;   // none or one
  Linear head_;
};

}  // namespace duet::models
