#include "duet/train/image_processor.h"

#include <algorithm>
#include <cmath>

namespace duet::train {
namespace {

constexpr int largest_side = 65536;
constexpr std::array imagenet_mean{0.485f, 0.456f, 0.406f}, imagenet_deviation{0.229f, 0.224f, 0.225f};

// What an absent key means depends on the class.
struct Defaults {
  bool clip;
  Json size, crop_size;
  bool crop;
  Resample resample;
  std::array<float, 3> mean, deviation;
};

Defaults defaults_of(const std::string& name, const std::string& source) {
  const auto is = [&](const char* stem) {
    const std::string processor = text(stem, "ImageProcessor");
    return name == processor || name == processor + "Fast" || name == processor + "Pil" ||
           name == text(stem, "FeatureExtractor");
  };
  if (is("CLIP"))
    return {true,
            {{"shortest_edge", 224}},
            224,
            true,
            Resample::bicubic,
            {0.48145466f, 0.4578275f, 0.40821073f},
            {0.26862954f, 0.26130258f, 0.27577711f}};
  check(name.empty() || is("ViT"), "processor", source, ": image processor \"", name,
        "\" is not supported; ViTImageProcessor and CLIPImageProcessor are, and what had these names before");
  return {false,
          {{"height", 224}, {"width", 224}},
          nullptr,
          false,
          Resample::bilinear,
          {0.5f, 0.5f, 0.5f},
          {0.5f, 0.5f, 0.5f}};
}

// Steps of other classes. A file may carry them switched off.
void refuse_other_steps(const Json& config, const std::string& source) {
  for (const char* step : {"do_pad", "do_thumbnail", "do_align_long_axis", "do_align_axis", "do_flip_channel_order",
                           "do_color_quantize", "do_grayscale", "do_affine_resize", "do_image_splitting", "offset",
                           "do_offset", "rescale_offset", "use_square_size"})
    check(!json_get(config, step, false), "processor", source, ": ", step, " is not supported; only false is");
  const auto pct = config.find("crop_pct");
  check(pct == config.end() || pct->is_null(), "processor", source, ": crop_pct is not supported");
}

int read_side(const Json& side, const char* key, const Json& whole, const std::string& source) {
  check(side.is_number_integer() && side >= 1 && side <= largest_side, "processor", source, ": ", key, " ",
        whole.dump(), " is not supported: sides must be whole numbers from 1 to ", largest_side);
  return side.get<int>();
}

bool has_only(const Json& object, std::initializer_list<const char*> keys) {
  return object.is_object() && object.size() == keys.size() &&
         std::all_of(keys.begin(), keys.end(), [&](const char* key) { return object.contains(key); });
}

std::optional<ImageInfo> read_pair(const Json& size, const char* key, const std::string& source) {
  if (!has_only(size, {"height", "width"})) return std::nullopt;
  return ImageInfo{read_side(size["width"], key, size, source), read_side(size["height"], key, size, source)};
}

void read_size(const Json& size, bool number_is_shortest_edge, const std::string& source, ImageSteps& steps) {
  steps.fit = Fit::stretch;
  if ((steps.size = read_pair(size, "size", source))) return;
  const bool edge = has_only(size, {"shortest_edge"});
  check(edge || size.is_number(), "processor", source, ": size ", size.dump(),
        " is not supported; use a number, {\"height\", \"width\"} or {\"shortest_edge\"}");
  const int side = read_side(edge ? size["shortest_edge"] : size, "size", size, source);
  if (edge || number_is_shortest_edge) {
    steps.fit = Fit::shortest_edge;
    steps.shortest_edge = side;
  } else {
    steps.size = ImageInfo{side, side};
  }
}

ImageInfo read_crop(const Json& size, const std::string& source) {
  if (const auto pair = read_pair(size, "crop_size", source)) return *pair;
  check(size.is_number(), "processor", source, ": crop_size ", size.dump(),
        " is not supported; use a number or {\"height\", \"width\"}");
  const int side = read_side(size, "crop_size", size, source);
  return {side, side};
}

Resample read_resample(const Json& value, const std::string& source) {
  std::string name = value.is_string() ? value.get<std::string>() : "";
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  for (int i = 0; i <= static_cast<int>(Resample::hamming); ++i) {
    const auto resample = static_cast<Resample>(i);
    if ((value.is_number_integer() && value == i) || name == resample_name(resample)) return resample;
  }
  fail("processor", source, ": resample ", value.dump(),
       " is not supported; 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box and 5 hamming are, as number or name");
}

std::array<float, 3> read_triple(const Json& config, const char* key, std::array<float, 3> fallback,
                                 const std::string& source) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return fallback;
  const Json& value = *found;
  if (value.is_number()) return {value.get<float>(), value.get<float>(), value.get<float>()};
  check(value.is_array() && value.size() == 3 && value[0].is_number() && value[1].is_number() && value[2].is_number(),
        "processor", source, ": ", key, " must be a number or three, got ", value.dump());
  return {value[0].get<float>(), value[1].get<float>(), value[2].get<float>()};
}

void check_finite(const ImageSteps& steps, const std::string& source) {
  for (size_t c = 0; c < 3; ++c)
    for (const int pixel : {0, 255}) {
      const float value = (static_cast<float>(pixel * steps.rescale_factor) - steps.mean[c]) / steps.deviation[c];
      check(std::isfinite(value), "processor", source, ": rescale_factor ", steps.rescale_factor, ", image_mean ",
            steps.mean[c], " and image_std ", steps.deviation[c], " make of pixel ", pixel, " no finite number");
    }
}

// The value under `key`, or the fallback when absent or null, as Hugging Face reads it.
const Json& value_or(const Json& config, const char* key, const Json& fallback) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? fallback : *found;
}

std::string processor_name(const Json& config) {
  const auto name = json_get<std::string>(config, "image_processor_type", "");
  return name.empty() ? json_get<std::string>(config, "feature_extractor_type", "") : name;
}

Json pair_json(ImageInfo size) {
  return {{"height", size.height}, {"width", size.width}};
}

}  // namespace

ImageSteps read_image_processor(const Json& config, const std::string& source) {
  check(config.is_object(), "processor", source, ": must be a JSON object");
  const Defaults defaults = defaults_of(processor_name(config), source);
  refuse_other_steps(config, source);
  ImageSteps steps;
  steps.fit = Fit::keep;
  if (json_get(config, "do_resize", true))
    read_size(value_or(config, "size", defaults.size), defaults.clip, source, steps);
  steps.crop_rounds = json_get(config, "duet_crop_rounds", false);
  const auto fit = json_get<std::string>(config, "duet_fit", "stretch");
  check(fit == "pad" || fit == "stretch", "processor", source, ": duet_fit \"", fit,
        "\" is unknown; use pad or stretch");
  if (fit == "pad") {
    check(steps.fit == Fit::stretch, "processor", source, ": duet_fit \"pad\" needs a size of height and width");
    steps.fit = Fit::pad;
  }
  steps.resample = read_resample(value_or(config, "resample", static_cast<int>(defaults.resample)), source);
  if (json_get(config, "do_center_crop", defaults.crop)) {
    const Json& crop = value_or(config, "crop_size", defaults.crop_size);
    check(!crop.is_null(), "processor", source, ": do_center_crop needs crop_size");
    steps.crop = read_crop(crop, source);
  }
  // A factor of 1, and mean 0 with deviation 1, leave every bit as it is.
  steps.rescale_factor = json_get(config, "do_rescale", true) ? json_get(config, "rescale_factor", 1.0 / 255) : 1.0;
  steps.mean = {0, 0, 0};
  steps.deviation = {1, 1, 1};
  if (json_get(config, "do_normalize", true)) {
    steps.mean = read_triple(config, "image_mean", defaults.mean, source);
    steps.deviation = read_triple(config, "image_std", defaults.deviation, source);
  }
  for (const float d : steps.deviation) check(d > 0, "processor", source, ": image_std must be positive, got ", d);
  check_finite(steps, source);
  return steps;
}

ImageSteps read_timm_processor(const Json& pretrained_cfg, const std::string& source) {
  check(pretrained_cfg.is_object(), "processor", source, ": pretrained_cfg must be an object");
  const auto input = json_get(pretrained_cfg, "input_size", std::vector<int64_t>{3, 224, 224});
  check(input.size() == 3 && input[0] == 3 && input[1] == input[2] && input[1] >= 1 && input[1] <= largest_side,
        "processor", source, ": input_size must be three channels and two equal sides");
  const auto mode = json_get<std::string>(pretrained_cfg, "crop_mode", "center");
  check(mode == "center", "processor", source, ": crop_mode \"", mode, "\" is not supported; center is");
  const double part = json_get(pretrained_cfg, "crop_pct", 0.875);
  check(part > 0 && part <= 1, "processor", source, ": crop_pct must be in (0, 1], got ", part);
  const auto side = static_cast<int>(input[1]);
  ImageSteps steps;
  steps.fit = Fit::shortest_edge;
  steps.shortest_edge = static_cast<int>(std::floor(side / part));
  steps.crop = ImageInfo{side, side};
  steps.crop_rounds = true;
  steps.resample = read_resample(json_get<std::string>(pretrained_cfg, "interpolation", "bicubic"), source);
  steps.mean = read_triple(pretrained_cfg, "mean", imagenet_mean, source);
  steps.deviation = read_triple(pretrained_cfg, "std", imagenet_deviation, source);
  return steps;
}

ImageSteps torchvision_processor(int side) {
  ImageSteps steps;
  steps.fit = Fit::shortest_edge;
  steps.shortest_edge = static_cast<int>(std::lround(side * 256.0 / 224));
  steps.crop = ImageInfo{side, side};
  steps.crop_rounds = true;
  steps.resample = Resample::bilinear;
  steps.mean = imagenet_mean;
  steps.deviation = imagenet_deviation;
  return steps;
}

Json write_image_processor(const ImageSteps& steps, int side) {
  const bool clip = steps.crop || steps.fit == Fit::shortest_edge;
  Json json{{"image_processor_type", clip ? "CLIPImageProcessor" : "ViTImageProcessor"},
            {"do_resize", steps.fit != Fit::keep}};
  if (steps.fit == Fit::shortest_edge)
    json["size"] = {{"shortest_edge", steps.shortest_edge}};
  else if (steps.fit != Fit::keep)
    json["size"] = pair_json(steps.size.value_or(ImageInfo{side, side}));
  json["resample"] = static_cast<int>(steps.resample);
  if (clip) json["do_center_crop"] = steps.crop.has_value();
  if (steps.crop) json["crop_size"] = pair_json(*steps.crop);
  json["do_rescale"] = steps.rescale_factor != 1;
  json["rescale_factor"] = steps.rescale_factor;
  json["do_normalize"] =
      steps.mean != std::array<float, 3>{0, 0, 0} || steps.deviation != std::array<float, 3>{1, 1, 1};
  json["image_mean"] = steps.mean;
  json["image_std"] = steps.deviation;
  if (steps.crop_rounds) json["duet_crop_rounds"] = true;
  if (steps.fit == Fit::pad || steps.fit == Fit::stretch) json["duet_fit"] = fit_name(steps.fit);
  return json;
}

}  // namespace duet::train
