#pragma once

#include "duet/models/bert.h"
#include "duet/train/processors.h"

namespace duet::tools {

// One image file as the model's input, (1, 3, S, S), prepared as training prepares it.
Tensor image_input(const std::string& path, const train::InputConfig& input);
// One text as the model's input, (1, T), cut to input.max_length tokens.
models::TextInput text_input(const std::string& text, const train::Processors& processors);

}  // namespace duet::tools
