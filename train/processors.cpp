#include "duet/train/processors.h"

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
  check(value.is_array() && value.size() == 3, "processor", key, " must be a number or three, got ", value.dump());
  return value.get<std::array<float, 3>>();
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
  p.input.use_text = std::filesystem::exists(directory + "/vocab.txt");
  p.input.use_images = std::filesystem::exists(directory + "/preprocessor_config.json");
  if (p.input.use_text) {
    p.tokenizer = std::make_shared<const Tokenizer>(Tokenizer::from_directory(directory));
    if (const std::string path = directory + "/tokenizer_config.json"; std::filesystem::exists(path)) {
      // Transformers writes 1e30 for "no limit".
      const double longest = json_get(read_json(path), "model_max_length", 0.0);
      if (longest >= 3 && longest <= 1e6) p.input.max_length = static_cast<int>(longest);
    }
  }
  if (p.input.use_images) {
    const Json config = read_json(directory + "/preprocessor_config.json");
    const Json size = config.contains("size") ? config["size"] : Json(224);
    p.input.image_size = size.is_object() ? json_get(size, "height", 224) : size.get<int>();
    const int resample = json_get(config, "resample", pillow_bilinear);
    check(resample == pillow_bilinear || resample == pillow_bicubic, "processor", directory, ": resample ", resample,
          " is not supported; 2 (bilinear) and 3 (bicubic) are");
    p.input.resample = resample == pillow_bilinear ? Resample::bilinear : Resample::bicubic;
    p.input.fit = json_get<std::string>(config, "duet_fit", "stretch") == "pad" ? Fit::pad : Fit::stretch;
    p.input.mean = read_triple(config, "image_mean", p.input.mean);
    p.input.deviation = read_triple(config, "image_std", p.input.deviation);
  }
  return p;
}

}  // namespace duet::train
