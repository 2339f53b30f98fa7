#include "duet/train/processors.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "duet/core/file.h"

namespace duet::train {
namespace {

// Pillow's numbers for the filters, which preprocessor_config.json uses.
constexpr int pillow_bilinear = 2, pillow_bicubic = 3;

std::array<float, 3> read_triple(const Json& json, const char* key, std::array<float, 3> fallback) {
  if (!json.contains(key)) return fallback;
  const Json& value = json[key];
  if (value.is_number()) return {value.get<float>(), value.get<float>(), value.get<float>()};
  check(value.is_array() && value.size() == 3 && value[0].is_number() && value[1].is_number() && value[2].is_number(),
        "processor", key, " must be a number or three, got ", value.dump());
  return value.get<std::array<float, 3>>();
}

// An integer, or {"height", "width"} with equal values.
int read_size(const Json& config, const std::string& directory) {
  if (!config.contains("size")) return 224;
  const Json& size = config["size"];
  const bool pair = size.is_object() && size.contains("height") && size.contains("width");
  const Json side = pair && size["height"] == size["width"] ? size["height"] : size;
  check(side.is_number_integer() && side.get<int64_t>() > 0 && side.get<int64_t>() <= 65536, "processor", directory,
        ": size ", size.dump(),
        " is not supported; images are made square, so give one side or equal height and width");
  return side.get<int>();
}

// What the image pipeline always does; a model that wants otherwise must not get wrong inputs silently.
void check_fixed_steps(const Json& config, const std::string& directory) {
  for (const char* step : {"do_resize", "do_rescale"})
    check(json_get(config, step, true), "processor", directory, ": ", step, " false is not supported");
  const auto factor = json_get(config, "rescale_factor", 1.0 / 255);
  check(std::abs(factor * 255 - 1) < 1e-6, "processor", directory, ": rescale_factor ", factor,
        " is not supported; 1/255 is");
  check(!json_get(config, "do_center_crop", false), "processor", directory, ": do_center_crop is not supported");
}

}  // namespace

void Processors::save(const std::string& directory) const {
  if (input.use_text && tokenizer) {
    tokenizer->save(directory, input.max_length);
  }
  if (input.use_images) {
    const Json config{{"image_processor_type", "ViTImageProcessor"},
                      {"do_resize", true},
                      {"size", {{"height", input.image_size}, {"width", input.image_size}}},
                      {"resample", input.resample == Resample::bilinear ? pillow_bilinear : pillow_bicubic},
                      {"do_rescale", true},
                      {"rescale_factor", 1.0 / 255},
                      {"do_normalize", true},
                      {"image_mean", input.mean},
                      {"image_std", input.deviation},
                      {"duet_fit", input.fit == Fit::pad ? "pad" : "stretch"}};
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
    const Json config = read_json(directory + "/preprocessor_config.json");
    check_fixed_steps(config, directory);
    p.input.image_size = read_size(config, directory);
    const int resample = json_get(config, "resample", pillow_bilinear);
    check(resample == pillow_bilinear || resample == pillow_bicubic, "processor", directory, ": resample ", resample,
          " is not supported; 2 (bilinear) and 3 (bicubic) are");
    p.input.resample = resample == pillow_bilinear ? Resample::bilinear : Resample::bicubic;
    p.input.fit = json_get<std::string>(config, "duet_fit", "stretch") == "pad" ? Fit::pad : Fit::stretch;
    if (json_get(config, "do_normalize", true)) {
      p.input.mean = read_triple(config, "image_mean", p.input.mean);
      p.input.deviation = read_triple(config, "image_std", p.input.deviation);
    } else {
      p.input.mean = {0, 0, 0};
      p.input.deviation = {1, 1, 1};
    }
    for (const float d : p.input.deviation)
      check(d > 0, "processor", directory, ": image_std must be positive, got ", d);
  }
  return p;
}

}  // namespace duet::train
