#pragma once

#include <string>

#include "duet/train/loader.h"

namespace duet::train {

// README.md of a model directory, in Markdown: what the model is, what it was trained on, its keys, and Python code
// that loads it with Hugging Face Transformers. `model` is its config.json, `input` what it was trained to see, `run`
// the run's config.json. Throws Error for an architecture that no stage trains.
std::string model_readme(const Json& model, const InputConfig& input, const Json& run);

}  // namespace duet::train
