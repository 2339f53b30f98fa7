#include "duet/train/processors.h"

#include <algorithm>
#include <filesystem>

#include "duet/core/file.h"
#include "duet/models/hub.h"
#include "duet/models/layouts.h"
#include "duet/models/vit.h"
#include "duet/train/image_processor.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

// How a model directory wants its images prepared; nothing when it takes none.
std::optional<ImageSteps> find_image_steps(const std::string& directory) {
  const std::string path = directory + "/preprocessor_config.json";
  if (fs::exists(path)) return read_image_processor(read_json(path), path);
  if (!models::Weights::exist(directory)) return std::nullopt;
  const Json config = models::read_model_config(directory);
  if (config.contains("pretrained_cfg"))
    return read_timm_processor(config["pretrained_cfg"], directory + "/config.json");
  const Json vision = models::encoder_config(config, true);
  if (vision.is_null()) return std::nullopt;
  const auto side = static_cast<int>(models::VitConfig::from_json(vision).image_size);
  const models::Layout layout = models::layout_of(models::Weights::open(directory));
  const auto names = std::array{"ViTImageProcessor", "torchvision", "timm"};
  std::fprintf(stderr, "note: %s has no preprocessor_config.json; images are prepared as %s does by default\n",
               directory.c_str(), names[static_cast<size_t>(layout)]);
  if (layout == models::Layout::torchvision) return torchvision_processor(side);
  if (layout == models::Layout::timm)
    return read_timm_processor(
        {{"input_size", {3, side, side}}, {"crop_pct", 0.9}, {"mean", {0.5, 0.5, 0.5}}, {"std", {0.5, 0.5, 0.5}}},
        directory);
  return steps_of_size(read_image_processor(Json::object(), path), side);
}

}  // namespace

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
  p.input.use_text = fs::exists(directory + "/vocab.txt") || fs::exists(directory + "/tokenizer.json");
  if (p.input.use_text) {
    p.tokenizer = std::make_shared<const Tokenizer>(Tokenizer::from_directory(directory));
    // Hugging Face writes 1e30 for "no limit"; the model's positions are the limit then.
    const std::string path = directory + "/tokenizer_config.json";
    const double longest = fs::exists(path) ? json_get(read_json(path), "model_max_length", 512.0) : 512.0;
    p.input.max_length = static_cast<int>(std::clamp(longest, 3.0, 512.0));
  }
  const std::optional<ImageSteps> steps = find_image_steps(directory);
  p.input.use_images = steps.has_value();
  if (steps) {
    p.input.steps = *steps;
    // A model says its own size later; most processors make images of one.
    if (const auto size = output_size(p.input.steps, p.input.image_size)) p.input.image_size = size->height;
  }
  return p;
}

void check_tokenizer(const Tokenizer& tokenizer, const models::BertConfig& model, const std::string& directory) {
  check(tokenizer.size() <= model.vocab_size, "model", directory, ": the tokenizer has ", tokenizer.size(),
        " tokens, the model embeddings for ", model.vocab_size, "; they do not belong together");
}

}  // namespace duet::train
