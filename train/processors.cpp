#include "duet/train/processors.h"

#include <algorithm>
#include <filesystem>

#include "duet/core/file.h"
#include "duet/train/image_processor.h"

namespace duet::train {
void Processors::save(const std::string& directory) const {
  if (input.use_text && tokenizer) {
    tokenizer->save(directory, input.max_length);
  }
  if (input.use_images) {
    const Json config = write_image_processor(input.steps, input.image_size);
    write_file_atomically(directory + "/preprocessor_config.json", config.dump(2) + "\n");
  }
}

Processors Processors::load(const std::string& directory) {
  Processors p;
  p.input.use_text =
      std::filesystem::exists(directory + "/vocab.txt") || std::filesystem::exists(directory + "/tokenizer.json");
  p.input.use_images = std::filesystem::exists(directory + "/preprocessor_config.json");
  if (p.input.use_text) {
    p.tokenizer = std::make_shared<const Tokenizer>(Tokenizer::from_directory(directory));
    // Hugging Face writes 1e30 for "no limit"; the model's positions are the limit then.
    const std::string path = directory + "/tokenizer_config.json";
    const double longest = std::filesystem::exists(path) ? json_get(read_json(path), "model_max_length", 512.0) : 512.0;
    p.input.max_length = static_cast<int>(std::clamp(longest, 3.0, 512.0));
  }
  if (p.input.use_images) {
    const std::string path = directory + "/preprocessor_config.json";
    p.input.steps = read_image_processor(read_json(path), path);
    // A model says its own size later; most processors make images of one.
    if (const auto size = output_size(p.input.steps, p.input.image_size)) p.input.image_size = size->height;
  }
  return p;
}

}  // namespace duet::train
