#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "duet/train/image.h"

namespace duet::train {

// How a decoded RGB image becomes a model's input, in this order: resize, crop, rescale, normalise. The names and the
// arithmetic are those of Hugging Face's ViTImageProcessor and CLIPImageProcessor.
struct ImageSteps {
  Fit fit = Fit::pad;
  Resample resample = Resample::bilinear;
  std::optional<ImageInfo> size;  // of pad and stretch; without a value the model's own size
  int shortest_edge = 0;          // of Fit::shortest_edge, else unused
  std::optional<ImageInfo> crop;  // cut from the middle, see centre_crop
  bool crop_rounds = false;       // torchvision's and timm's middle instead of Hugging Face's, see centre_crop
  double rescale_factor = 1.0 / 255;
  std::array<float, 3> mean{0.5f, 0.5f, 0.5f}, deviation{0.5f, 0.5f, 0.5f};
};

const char* fit_name(Fit fit);
const char* resample_name(Resample resample);

// The size of every result, or nothing when it depends on the image. `side` is the model's own size.
std::optional<ImageInfo> output_size(const ImageSteps& steps, int side);

// The same steps for a model of `side` x `side` pixels: sizes keep their proportions.
ImageSteps steps_of_size(ImageSteps steps, int side);

// The image after resize and crop.
Image fit_image(const Image& image, const ImageSteps& steps, int side);

// fit_image(load_image(path), ...), bit for bit, in the memory of load_image_at_most: the rows of a large image go
// straight into the resize, and the crop follows. Refused when the resized image itself is above the limit, as an
// extreme aspect ratio with shortest_edge makes it.
Image load_fitted(const std::string& path, const ImageSteps& steps, int side, const DecodeOptions& options = {});

// width x height pixels from the middle; what lies outside is black. Offsets are (side - new side) / 2, rounded down as
// Hugging Face does, or with `rounds` to the nearest even number as torchvision and timm do.
Image centre_crop(const Image& image, ImageInfo size, bool rounds = false);

// A model takes side x side pixels. Throws Error with both sizes when `steps` give another size for every image ...
void check_output_size(const ImageSteps& steps, int side);
// ... and when this one came out in another size.
void check_image_size(const Image& image, const ImageSteps& steps, int side, const std::string& path);

// (3, height, width) floats, (value * rescale_factor - mean) / deviation per channel: the product in double, then
// float.
void to_chw(const Image& image, const ImageSteps& steps, float* out);

}  // namespace duet::train
