#include <png.h>

#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <cstring>

#include "duet/core/error.h"
#include "duet/train/image_decoder.h"
#include "duet/train/image_png_stored.h"

namespace duet::train {
namespace {

// libpng reports an error by longjmp, which must not pass over a destructor: every call that can fail goes through
// here, in a body whose own objects are all trivial.
template <class Body>
[[gnu::noinline]] bool succeeds(png_structp png, Body& body) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  body();
  return true;
}

// What libpng said last. Its warnings are not errors, but they often explain the error that follows.
struct Report {
  char error[160] = "", warning[160] = "";
};

void copy_message(const char* from, char (&to)[160]) {
  std::strncpy(to, from, sizeof to - 1);
}

void on_error(png_structp png, png_const_charp message) {
  copy_message(message, static_cast<Report*>(png_get_error_ptr(png))->error);
  png_longjmp(png, 1);
}

void on_warning(png_structp png, png_const_charp message) {
  copy_message(message, static_cast<Report*>(png_get_error_ptr(png))->warning);
}

// What is read: a file on disk, or one in memory.
struct Input {
  FILE* file = nullptr;  // null: in memory
  const uint8_t* bytes = nullptr;
  size_t left = 0;
};

void read_bytes(png_structp png, png_bytep out, size_t size) {
  auto* input = static_cast<Input*>(png_get_io_ptr(png));
  FILE* const file = input->file;
  if (file == nullptr && size <= input->left) {
    std::memcpy(out, input->bytes, size);
    input->bytes += size;
    input->left -= size;
    return;
  }
  if (file != nullptr && std::fread(out, 1, size, file) == size) return;
  png_error(png,
            file != nullptr && std::ferror(file) ? std::strerror(errno) : "the file ends too early, it is truncated");
}

void composite_on_white(const uint8_t* rgba, int width, uint8_t* rgb) {
  for (int x = 0; x < width; ++x, rgba += 4, rgb += 3) {
    const uint32_t alpha = rgba[3];
    for (int c = 0; c < 3; ++c) {
      // Divides by 255 with correct rounding.
      const uint32_t sum = rgba[c] * alpha + 255 * (255 - alpha) + 128;
      rgb[c] = static_cast<uint8_t>((sum + (sum >> 8)) >> 8);
    }
  }
}

void drop_alpha(const uint8_t* rgba, int width, uint8_t* rgb) {
  for (int x = 0; x < width; ++x, rgba += 4, rgb += 3) std::memcpy(rgb, rgba, 3);
}

class PngDecoder final : public ImageDecoder {
 public:
  PngDecoder(File file, const std::string& path, const DecodeOptions& options, Wanted wanted)
      : file_(std::move(file)), path_(path), composite_(options.composite_on_white) {
    if (wanted == Wanted::rows) stored_ = store_png(file_.get(), options.max_pixels);
    input_ = stored_.bytes ? Input{nullptr, stored_.bytes.get(), stored_.size} : Input{file_.get()};
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &report_, on_error, on_warning);
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    try {
      check(info_ != nullptr, "image", path_, ": cannot start the PNG decoder: ", report_.error);
      read_header();
    } catch (...) {
      png_destroy_read_struct(&png_, &info_, nullptr);
      throw;
    }
  }
  ~PngDecoder() override { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  void read_row(uint8_t* rgb) override {
    const uint8_t* row;
    if (interlaced_) {
      if (y_ == 0) read_interlaced();
      row = buffer_.data() + static_cast<size_t>(y_) * row_bytes_;
    } else {
      uint8_t* target = has_alpha_ ? buffer_.data() : rgb;
      run([&] { png_read_row(png_, target, nullptr); });
      row = target;
    }
    ++y_;
    if (has_alpha_)
      (composite_ ? composite_on_white : drop_alpha)(row, width_, rgb);
    else if (row != rgb)
      std::memcpy(rgb, row, row_bytes_);
  }

  void finish() override {
    run([&] { png_read_end(png_, nullptr); });
  }

 private:
  template <class Body>
  void run(Body body) {
    if (succeeds(png_, body)) return;
    fail("image", path_, ": damaged PNG: ", report_.error, *report_.warning ? " (" : "", report_.warning,
         *report_.warning ? ")" : "");
  }

  void read_header() {
    png_uint_32 exif_size = 0;
    png_bytep exif = nullptr;
    bool deep = false;
    run([&] {
      png_set_read_fn(png_, &input_, read_bytes);
      // By default libpng lets a damaged ancillary chunk pass, tRNS and eXIf among them. In memory all were compared.
      const int on_damage = stored_.bytes ? PNG_CRC_QUIET_USE : PNG_CRC_ERROR_QUIT;
      png_set_crc_action(png_, on_damage, on_damage);
      // Pixels are covered by these checksums already; zlib's second one takes a fifteenth of the time.
      png_set_option(png_, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
      // Text, colour profiles and the like change no pixel here; the two that do stay on.
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_AS_DEFAULT, reinterpret_cast<png_const_bytep>("tRNS\0eXIf"),
                                  2);
      png_read_info(png_, info_);
      width_ = static_cast<int>(png_get_image_width(png_, info_));
      height_ = static_cast<int>(png_get_image_height(png_, info_));
      deep = png_get_bit_depth(png_, info_) == 16;
      interlaced_ = png_get_interlace_type(png_, info_) != PNG_INTERLACE_NONE;
      png_get_eXIf_1(png_, info_, &exif_size, &exif);
      png_set_expand(png_);
      // The high byte, as Pillow takes it from 16-bit colour (16-bit grey it clips, which leaves a white image).
      if (deep) png_set_strip_16(png_);
      png_set_gray_to_rgb(png_);
      passes_ = png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
      row_bytes_ = png_get_rowbytes(png_, info_);
      has_alpha_ = png_get_channels(png_, info_) == 4;
    });
    check(row_bytes_ == static_cast<size_t>(width_) * (has_alpha_ ? 4 : 3), "image", path_, ": unexpected PNG layout");
    if (exif) orientation_ = exif_orientation(exif, exif_size);
    if (interlaced_) buffered_bytes_ = static_cast<int64_t>(row_bytes_) * height_;
    // An interlaced image is buffered only once its size was accepted.
    if (has_alpha_ && !interlaced_) buffer_.resize(row_bytes_);
  }

  void read_interlaced() {
    buffer_.resize(row_bytes_ * static_cast<size_t>(height_));
    run([&] {
      for (int pass = 0; pass < passes_; ++pass)
        for (int y = 0; y < height_; ++y)
          png_read_row(png_, buffer_.data() + static_cast<size_t>(y) * row_bytes_, nullptr);
    });
  }

  File file_;
  StoredPng stored_;
  Input input_;
  std::string path_;
  bool composite_, interlaced_ = false, has_alpha_ = false;
  Report report_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  int passes_ = 1, y_ = 0;
  size_t row_bytes_ = 0;
  std::vector<uint8_t> buffer_;  // a row with alpha, or all of an interlaced image
};

}  // namespace

std::unique_ptr<ImageDecoder> open_png(File file, const std::string& path, const DecodeOptions& options,
                                       Wanted wanted) {
  return std::make_unique<PngDecoder>(std::move(file), path, options, wanted);
}

namespace {

// A file being written into memory that is known to suffice.
struct Output {
  uint8_t* at;
  size_t left;
};

void write_bytes(png_structp png, png_bytep bytes, size_t size) {
  auto* output = static_cast<Output*>(png_get_io_ptr(png));
  if (size > output->left) png_error(png, "larger than it can be");
  std::memcpy(output->at, bytes, size);
  output->at += size;
  output->left -= size;
}

std::string encoded(const Image& image, int filters) {
  png_image layout{};
  layout.width = static_cast<png_uint_32>(image.width);
  layout.height = static_cast<png_uint_32>(image.height);
  layout.format = PNG_FORMAT_RGB;
  std::string bytes(PNG_IMAGE_PNG_SIZE_MAX(layout), '\0');
  Output output{reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()};
  Report report;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &report, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  const auto write = [&] {
    png_set_write_fn(png, &output, write_bytes, nullptr);
    png_set_IHDR(png, info, layout.width, layout.height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_sRGB(png, info, PNG_sRGB_INTENT_PERCEPTUAL);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, filters);
    png_write_info(png, info);
    for (size_t y = 0; y < layout.height; ++y) png_write_row(png, image.rgb.data() + y * layout.width * 3);
    png_write_end(png, info);
  };
  const bool written = info != nullptr && succeeds(png, write);
  png_destroy_write_struct(&png, &info);
  check(written, "image", "cannot encode ", image.width, " x ", image.height, " pixels as PNG: ", report.error);
  bytes.resize(bytes.size() - output.left);
  return bytes;
}

}  // namespace

std::string encode_png(const Image& image) {
  check(image.width > 0 && image.height > 0 &&
            image.rgb.size() == static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3,
        "image", "cannot encode ", image.width, " x ", image.height, " pixels from ", image.rgb.size(), " bytes");
  // Drawings mostly compress better without filters, and libpng undoes filters byte by byte where it was built without
  // vector code: half of what such a file costs to read. Photographs are smaller with them by more than this.
  constexpr size_t worth_filtering = 5;  // a fifth of the file
  std::string plain = encoded(image, PNG_FILTER_NONE), filtered = encoded(image, PNG_ALL_FILTERS);
  return std::move(plain.size() - plain.size() / worth_filtering <= filtered.size() ? plain : filtered);
}

}  // namespace duet::train
