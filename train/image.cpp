#include "duet/train/image.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include "duet/core/error.h"
#include "duet/train/image_decoder.h"
#include "duet/train/image_resize.h"

namespace duet::train {
namespace {

// EXIF orientations from 5 on exchange width and height; from 3 on rows cannot be streamed.
bool transposes(int orientation) {
  return orientation >= 5;
}
bool moves_rows(int orientation) {
  return orientation >= 3;
}

void mirror_row(uint8_t* rgb, int width) {
  for (uint8_t *left = rgb, *right = rgb + (static_cast<size_t>(width) - 1) * 3; left < right; left += 3, right -= 3)
    std::swap_ranges(left, left + 3, right);
}

Image oriented(const Image& image, int orientation) {
  const bool transpose = transposes(orientation);
  // Which stored axis runs backwards along the result's: 2 mirrors x, 4 mirrors y, 3 both, 6 = 90 degrees clockwise.
  const bool backward_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool backward_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out{transpose ? image.height : image.width, transpose ? image.width : image.height, {}};
  out.rgb.resize(image.rgb.size());
  uint8_t* to = out.rgb.data();
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x, to += 3) {
      int from_x = transpose ? y : x, from_y = transpose ? x : y;
      if (backward_x) from_x = image.width - 1 - from_x;
      if (backward_y) from_y = image.height - 1 - from_y;
      std::memcpy(
          to,
          image.rgb.data() +
              (static_cast<size_t>(from_y) * static_cast<size_t>(image.width) + static_cast<size_t>(from_x)) * 3,
          3);
    }
  return out;
}

ImageInfo oriented_size(const ImageDecoder& decoder, int orientation) {
  if (transposes(orientation)) return {decoder.height(), decoder.width()};
  return {decoder.width(), decoder.height()};
}

// load_resized of an opened image.
Image resized(const std::unique_ptr<ImageDecoder>& decoder, const std::string& path, const DecodeOptions& options,
              int64_t limit, Resample resample, const SizeRule& rule) {
  const int width = decoder->width(), height = decoder->height();
  const int orientation = options.apply_orientation ? decoder->orientation() : 1;
  const bool whole = moves_rows(orientation);
  const int64_t needed = std::max(decoder->buffered_bytes(), whole ? int64_t{3} * width * height : 0);
  check(needed <= limit, "image", path, ": ", width, " x ", height, " pixels ",
        whole ? text("with EXIF orientation ", orientation) : "in an interlaced or progressive file", " would need ",
        needed >> 20, " MiB at once, more than the limit of ", limit >> 20,
        " MiB; store it upright and neither interlaced nor progressive, so that it can be read row by row");
  const ImageInfo size = oriented_size(*decoder, orientation), target = rule(size);
  check_resized_bytes(size, target, limit, path);
  const ImageInfo streamed = whole ? ImageInfo{width, height} : target;
  try {
    RowResizer resizer(width, height, streamed.width, streamed.height, resample);
    std::vector<uint8_t> row(static_cast<size_t>(width) * 3);
    for (int y = 0; y < height; ++y) {
      decoder->read_row(row.data());
      if (orientation == 2) mirror_row(row.data(), width);
      resizer.push(row.data());
    }
    decoder->finish();
    Image image = resizer.finish();
    if (!whole) return image;
    image = oriented(image, orientation);
    if (target.width == image.width && target.height == image.height) return image;
    return resize(image, target.width, target.height, resample);
  } catch (const std::bad_alloc&) {
    fail("image", path, ": not enough memory for ", width, " x ", height, " pixels");
  }
}

// The size with its longer side brought to `side`.
ImageInfo scaled_to(ImageInfo size, int side) {
  const double factor = static_cast<double>(side) / std::max(size.width, size.height);
  return {std::clamp(static_cast<int>(std::lround(size.width * factor)), 1, side),
          std::clamp(static_cast<int>(std::lround(size.height * factor)), 1, side)};
}

}  // namespace

int exif_orientation(const uint8_t* data, size_t size) {
  if (size >= 6 && std::memcmp(data, "Exif\0", 6) == 0) {  // some writers keep JPEG's prefix in PNG
    data += 6;
    size -= 6;
  }
  if (size < 8) return 1;
  const bool little = data[0] == 'I';
  if (std::memcmp(data, little ? "II" : "MM", 2) != 0) return 1;
  const auto number = [&](size_t at, size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value = value << 8 | data[at + (little ? bytes - 1 - i : i)];
    return value;
  };
  if (number(2, 2) != 42) return 1;
  const size_t directory = number(4, 4);
  if (directory > size - 2 || directory < 8) return 1;
  const size_t entries = number(directory, 2);
  constexpr uint32_t orientation_tag = 0x0112, type_short = 3;
  for (size_t i = 0; i < entries; ++i) {
    const size_t at = directory + 2 + i * 12;
    if (at + 12 > size) return 1;
    if (number(at, 2) != orientation_tag) continue;
    const uint32_t value = number(at + 8, 2);
    return number(at + 2, 2) == type_short && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

namespace {

std::unique_ptr<ImageDecoder> open_stream(File file, const std::string& path, const DecodeOptions& options,
                                          Wanted wanted) {
  uint8_t head[4] = {};
  const size_t n = std::fread(head, 1, sizeof head, file.get());
  check(!std::ferror(file.get()), "image", path, ": cannot read: ", std::strerror(errno));
  check(n > 0, "image", path, ": the file is empty");
  const bool png = n == 4 && std::memcmp(head, "\x89PNG", 4) == 0;
  const bool jpeg = n >= 2 && head[0] == 0xFF && head[1] == 0xD8;
  check(png || jpeg, "image", path, ": is neither PNG nor JPEG; convert it to one of them");
  check(std::fseek(file.get(), 0, SEEK_SET) == 0, "image", path, ": cannot seek: ", std::strerror(errno));
  auto decoder = (png ? open_png : open_jpeg)(std::move(file), path, options, wanted);
  check(int64_t{decoder->width()} * decoder->height() <= options.max_pixels, "image", path, ": ", decoder->width(),
        " x ", decoder->height(), " pixels are more than the limit of ", options.max_pixels,
        "; shrink the image or raise --max-pixels");
  return decoder;
}

Image as_it_is(const std::unique_ptr<ImageDecoder>& decoder, const std::string& path, const DecodeOptions& options) {
  return resized(decoder, path, options, std::numeric_limits<int64_t>::max(), Resample::bilinear,
                 [](ImageInfo size) { return size; });
}

}  // namespace

std::unique_ptr<ImageDecoder> open_image(const std::string& path, const DecodeOptions& options, Wanted wanted) {
  File file(std::fopen(path.c_str(), "rbe"));
  check(file != nullptr, "image", path, ": cannot open: ", std::strerror(errno));
  struct stat status {};
  check(::fstat(::fileno(file.get()), &status) == 0, "image", path, ": cannot read: ", std::strerror(errno));
  check(!S_ISDIR(status.st_mode), "image", path, ": is a directory, an image file was expected");
  return open_stream(std::move(file), path, options, wanted);
}

void check_resized_bytes(ImageInfo size, ImageInfo resized, int64_t limit, const std::string& path) {
  check(resized.width <= limit / 3 / resized.height, "image", path, ": ", size.width, " x ", size.height,
        " pixels become ", resized.width, " x ", resized.height, ", more than the limit of ", limit >> 20,
        " MiB; crop the image or change the size in preprocessor_config.json");
}

Image load_resized(const std::string& path, const DecodeOptions& options, int64_t limit, Resample resample,
                   const SizeRule& rule) {
  return resized(open_image(path, options, Wanted::rows), path, options, limit, resample, rule);
}

ImageInfo read_image_info(const std::string& path, const DecodeOptions& options) {
  const auto decoder = open_image(path, options, Wanted::size);
  return oriented_size(*decoder, options.apply_orientation ? decoder->orientation() : 1);
}

Image load_image(const std::string& path, const DecodeOptions& options) {
  return as_it_is(open_image(path, options, Wanted::rows), path, options);
}

Image decode_image(std::string_view bytes, const std::string& name, const DecodeOptions& options) {
  check(!bytes.empty(), "image", name, ": the file is empty");
  // Opened for reading, so the bytes stay as they are.
  File file(::fmemopen(const_cast<char*>(bytes.data()), bytes.size(), "rb"));
  check(file != nullptr, "image", name, ": cannot open: ", std::strerror(errno));
  return as_it_is(open_stream(std::move(file), name, options, Wanted::rows), name, options);
}

Image load_image_at_most(const std::string& path, int max_side, Resample resample, const DecodeOptions& options) {
  check(max_side > 0, "image", path, ": the longest side must be positive, got ", max_side);
  return load_resized(path, options, whole_image_limit_bytes, resample, [&](ImageInfo size) {
    return std::max(size.width, size.height) <= max_side ? size : scaled_to(size, max_side);
  });
}

}  // namespace duet::train
