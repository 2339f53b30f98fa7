#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace duet::train {

// 8-bit RGB, rows from top to bottom, no padding: rgb has height * width * 3 bytes.
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;
};

// The filters of Pillow, with its numbers, which preprocessor_config.json uses.
enum class Resample { nearest = 0, lanczos = 1, bilinear = 2, bicubic = 3, box = 4, hamming = 5 };
// How an image is brought to a size. `pad` keeps the aspect ratio and centres on white (an odd rest goes to the right
// and the bottom), `stretch` ignores the ratio, `shortest_edge` scales until the shorter side has the wanted length,
// `keep` leaves the size.
enum class Fit { pad, stretch, shortest_edge, keep };

struct DecodeOptions {
  int64_t max_pixels = 1'000'000'000;  // larger images are refused before a pixel is decoded
  bool composite_on_white = true;      // false: alpha is dropped, as Pillow's convert("RGB") does
  bool apply_orientation = true;       // EXIF orientation, as Pillow's exif_transpose does
};

struct ImageInfo {
  int width, height;
};

// What load_image_at_most may hold of an image whose rows cannot be streamed (interlaced PNG, JPEG in several scans,
// an EXIF orientation that moves rows).
constexpr int64_t whole_image_limit_bytes = int64_t{256} << 20;

// All loaders read PNG and JPEG, told apart by their content, in every colour type; 16-bit samples lose their low
// byte, grey is replicated, CMYK is converted. They throw an Error of one line that begins "[image] PATH: " when the
// file is missing, empty, truncated, damaged (checksums included), of another format or too large. Damaged means that
// pixels would be wrong: nothing is half decoded.

// The size after the orientation is applied. Reads only the header.
ImageInfo read_image_info(const std::string& path, const DecodeOptions& options = {});

Image load_image(const std::string& path, const DecodeOptions& options = {});
// The same of a file's bytes; `name` stands for the path in errors.
Image decode_image(std::string_view bytes, const std::string& name, const DecodeOptions& options = {});

// The image with its longer side shrunk to `max_side`: each side becomes round(side * max_side / longer), at least 1;
// a smaller image stays as it is. The result is that of resize(load_image(path), ...), bit for bit, but the image is
// decoded row by row into the resize, so memory grows with the width and not with the area, but for up to 24 MB that a
// PNG may take at once. An image for which that is
// impossible is refused when it needs more than whole_image_limit_bytes.
Image load_image_at_most(const std::string& path, int max_side, Resample resample, const DecodeOptions& options = {});

// Pillow's Image.resize of an RGB image, bit for bit (see image_resize.h).
Image resize(const Image& image, int width, int height, Resample resample);

// With PNG's filters where these make the file clearly smaller; without, it is read faster.
std::string encode_png(const Image& image);

}  // namespace duet::train
