#pragma once

#include "duet/models/bert.h"
#include "duet/models/hub.h"
#include "duet/models/vit.h"
#include "duet/train/processors.h"

// Where a stage's encoders start: from scratch at the stage's size, or from a model directory of any supported kind.
namespace duet::train {

struct StageConfig;

// Model directories; empty = from scratch.
struct EncoderSources {
  std::string vision, text;
  int image_size = 0;  // for a pretrained vision encoder; 0 = the size it was trained for
  models::Interpolation positions = models::Interpolation::hugging_face;  // when image_size is another

  Json to_json() const;
};

// The vision encoder's config; `input` gets the image size and, from a model directory, its preparation of images.
models::VitConfig vision_encoder(const StageConfig& config, InputConfig& input);

// The text encoder's config and its tokenizer. Throws Error when texts may be longer than its positions reach.
models::BertConfig text_encoder(const StageConfig& config, const InputConfig& input,
                                std::shared_ptr<const Tokenizer>& tokenizer);

// Loads the parts of `store` that have a source, says on stderr what of them starts fresh, and initialises the rest.
void load_encoders(models::ParamStore& store, const EncoderSources& from);

}  // namespace duet::train
