#include "duet/train/image_steps.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "duet/core/error.h"
#include "duet/train/image_decoder.h"

namespace duet::train {
namespace {

// The size with its longer side brought to that of `box`, or the shorter one where the box is too small for it.
ImageInfo scaled_into(ImageInfo size, ImageInfo box) {
  const double factor =
      std::min(static_cast<double>(box.width) / size.width, static_cast<double>(box.height) / size.height);
  return {std::clamp(static_cast<int>(std::lround(size.width * factor)), 1, box.width),
          std::clamp(static_cast<int>(std::lround(size.height * factor)), 1, box.height)};
}

// Python's int(edge * long / short): the quotient is cut, not rounded.
ImageInfo with_shortest_edge(ImageInfo size, int edge) {
  const auto scaled = [&](int longer, int shorter) {
    const int64_t length = int64_t{edge} * longer / shorter;
    return static_cast<int>(std::min<int64_t>(length, std::numeric_limits<int>::max()));
  };
  if (size.width <= size.height) return {edge, scaled(size.height, size.width)};
  return {scaled(size.width, size.height), edge};
}

ImageInfo box_of(const ImageSteps& steps, int side) {
  return steps.size.value_or(ImageInfo{side, side});
}

ImageInfo resized_size(ImageInfo size, const ImageSteps& steps, int side) {
  switch (steps.fit) {
    case Fit::pad:
      return scaled_into(size, box_of(steps, side));
    case Fit::stretch:
      return box_of(steps, side);
    case Fit::shortest_edge:
      return with_shortest_edge(size, steps.shortest_edge);
    case Fit::keep:
      break;
  }
  return size;
}

// `size` pixels, of which the image fills what it can from (left, top) on; both may be negative, which cuts.
Image placed(const Image& image, ImageInfo size, int left, int top, uint8_t ground) {
  Image out{size.width, size.height, {}};
  out.rgb.assign(static_cast<size_t>(size.width) * static_cast<size_t>(size.height) * 3, ground);
  const int from_x = std::max(0, left), end_x = std::min(size.width, left + image.width);
  if (from_x >= end_x) return out;
  for (int y = std::max(0, top); y < std::min(size.height, top + image.height); ++y) {
    const auto to = static_cast<size_t>(y) * static_cast<size_t>(size.width) + static_cast<size_t>(from_x);
    const auto from =
        static_cast<size_t>(y - top) * static_cast<size_t>(image.width) + static_cast<size_t>(from_x - left);
    std::memcpy(out.rgb.data() + to * 3, image.rgb.data() + from * 3, static_cast<size_t>(end_x - from_x) * 3);
  }
  return out;
}

int floor_half(int n) {
  return n >= 0 ? n / 2 : -((1 - n) / 2);
}

Image finished(Image image, const ImageSteps& steps, int side) {
  if (steps.fit == Fit::pad) {
    const ImageInfo box = box_of(steps, side);
    if (image.width != box.width || image.height != box.height)
      image = placed(image, box, (box.width - image.width) / 2, (box.height - image.height) / 2, 255);
  }
  return steps.crop ? centre_crop(image, *steps.crop, steps.crop_rounds) : image;
}

void check_side(const ImageSteps& steps, int side) {
  const bool sized = steps.fit == Fit::pad || steps.fit == Fit::stretch;
  const ImageInfo box = box_of(steps, side);
  check(!sized || (box.width > 0 && box.height > 0), "image", "the size to resize to must be positive, got ", box.width,
        " x ", box.height);
  check(steps.fit != Fit::shortest_edge || steps.shortest_edge > 0, "image", "the shortest edge must be positive, got ",
        steps.shortest_edge);
}

}  // namespace

const char* fit_name(Fit fit) {
  constexpr const char* names[] = {"pad", "stretch", "shortest_edge", "keep"};
  return names[static_cast<int>(fit)];
}

const char* resample_name(Resample resample) {
  constexpr const char* names[] = {"nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"};
  return names[static_cast<int>(resample)];
}

std::optional<ImageInfo> output_size(const ImageSteps& steps, int side) {
  if (steps.crop) return steps.crop;
  if (steps.fit == Fit::pad || steps.fit == Fit::stretch) return box_of(steps, side);
  return std::nullopt;
}

Image centre_crop(const Image& image, ImageInfo size, bool rounds) {
  check(size.width > 0 && size.height > 0, "image", "cannot crop to ", size.width, " x ", size.height,
        ": every side must be positive");
  const auto offset = [&](int margin) {
    return rounds ? static_cast<int>(std::nearbyint(margin / 2.0)) : floor_half(margin);
  };
  return placed(image, size, -offset(image.width - size.width), -offset(image.height - size.height), 0);
}

ImageSteps steps_of_size(ImageSteps steps, int side) {
  if (steps.crop) {
    const double factor = static_cast<double>(side) / std::min(steps.crop->width, steps.crop->height);
    const auto scaled = [&](int length) { return static_cast<int>(std::lround(length * factor)); };
    if (steps.size) steps.size = ImageInfo{scaled(steps.size->width), scaled(steps.size->height)};
    steps.shortest_edge = scaled(steps.shortest_edge);
    steps.crop = ImageInfo{side, side};
  } else {
    if (steps.size) steps.size = ImageInfo{side, side};
    if (steps.shortest_edge > 0) steps.shortest_edge = side;
  }
  return steps;
}

Image fit_image(const Image& image, const ImageSteps& steps, int side) {
  check_side(steps, side);
  check(image.width > 0 && image.height > 0, "image", "the image to resize is empty");
  const ImageInfo size = resized_size({image.width, image.height}, steps, side);
  if (steps.fit == Fit::keep) return finished(image, steps, side);
  check_resized_bytes({image.width, image.height}, size, whole_image_limit_bytes, "image");
  return finished(resize(image, size.width, size.height, steps.resample), steps, side);
}

Image load_fitted(const std::string& path, const ImageSteps& steps, int side, const DecodeOptions& options) {
  check_side(steps, side);
  const auto rule = [&](ImageInfo size) { return resized_size(size, steps, side); };
  return finished(load_resized(path, options, whole_image_limit_bytes, steps.resample, rule), steps, side);
}

void check_output_size(const ImageSteps& steps, int side) {
  const auto size = output_size(steps, side);
  check(!size || (size->width == side && size->height == side), "image", "the image processor makes images of ",
        size ? size->width : 0, " x ", size ? size->height : 0, " pixels, but the model takes ", side, " x ", side,
        "; change ", steps.crop ? "crop_size" : "size", " in preprocessor_config.json to the model's image_size");
}

void check_image_size(const Image& image, const ImageSteps& steps, int side, const std::string& path) {
  check(image.width == side && image.height == side, "image", path, ": came out at ", image.width, " x ", image.height,
        " pixels, but the model takes ", side, " x ", side, "; ",
        steps.fit == Fit::keep ? "set do_resize" : "set do_center_crop and crop_size", " in preprocessor_config.json",
        " or give images that come out right");
}

void to_chw(const Image& image, const ImageSteps& steps, float* out) {
  const size_t pixels = static_cast<size_t>(image.width) * static_cast<size_t>(image.height);
  for (size_t c = 0; c < 3; ++c) {
    float table[256];
    for (int v = 0; v < 256; ++v)
      table[v] = (static_cast<float>(v * steps.rescale_factor) - steps.mean[c]) / steps.deviation[c];
    for (size_t i = 0; i < pixels; ++i) out[c * pixels + i] = table[image.rgb[i * 3 + c]];
  }
}

}  // namespace duet::train
