#include "duet/tools/model_input.h"

#include "duet/train/idx.h"

namespace duet::tools {

Tensor image_input(const std::string& path, const train::InputConfig& input) {
  train::check_output_size(input.steps, input.image_size);
  const train::Image image = train::load_fitted_reference(path, input.steps, input.image_size, input.decode);
  train::check_image_size(image, input.steps, input.image_size, path);
  const Tensor pixels = Tensor::empty({1, 3, input.image_size, input.image_size}, DType::f32);
  train::to_chw(image, input.steps, pixels.data<float>());
  return pixels;
}

models::TextInput text_input(const std::string& text, const train::Processors& processors) {
  const std::vector<int32_t> ids = processors.tokenizer->encode(text, processors.input.max_length).ids;
  return {.ids = Tensor::from({1, static_cast<int64_t>(ids.size())}, ids)};
}

}  // namespace duet::tools
