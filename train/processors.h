#pragma once

#include <memory>
#include <string>

#include "duet/core/json.h"
#include "duet/models/bert.h"
#include "duet/train/loader.h"

namespace duet::train {

// The non-learned half of a model: tokenizer and image preparation. Stored beside the weights as vocab.txt,
// tokenizer_config.json and preprocessor_config.json, as Hugging Face does, so that a model directory is complete.
struct Processors {
  std::shared_ptr<const Tokenizer> tokenizer;  // null without text
  InputConfig input;

  void save(const std::string& directory) const;
  // Reads what DIR has; the parts that config.json does not name stay empty.
  static Processors load(const std::string& directory);
};

// Throws Error naming the directory when the tokenizer can give ids that the model has no embeddings for.
void check_tokenizer(const Tokenizer& tokenizer, const models::BertConfig& model, const std::string& directory);

}  // namespace duet::train
