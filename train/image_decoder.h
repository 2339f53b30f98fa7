#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include "duet/train/image.h"

// The format readers behind image.h.
namespace duet::train {

// An opened image whose header was read; of a PNG of which rows are wanted, all that it holds (see store_png). Rows are
// given from top to bottom as stored, before orientation.
class ImageDecoder {
 public:
  virtual ~ImageDecoder() = default;

  int width() const { return width_; }
  int height() const { return height_; }
  int orientation() const { return orientation_; }  // EXIF, 1 to 8; 1 = as stored
  // What the decoder must hold beyond a few rows and what store_png holds, which has a limit of its own.
  int64_t buffered_bytes() const { return buffered_bytes_; }

  virtual void read_row(uint8_t* rgb) = 0;  // the next row, width * 3 bytes
  virtual void finish() = 0;                // after the last row: checks the rest of the file

 protected:
  int width_ = 0, height_ = 0, orientation_ = 1;
  int64_t buffered_bytes_ = 0;
};

struct FileCloser {
  void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, FileCloser>;

// Whoever only wants the size should not pay for what makes reading rows faster. Rows can be read in either case.
enum class Wanted { size, rows };

std::unique_ptr<ImageDecoder> open_png(File file, const std::string& path, const DecodeOptions& options, Wanted wanted);
std::unique_ptr<ImageDecoder> open_jpeg(File file, const std::string& path, const DecodeOptions& options,
                                        Wanted wanted);
// Looks at the first bytes, and refuses images of more than max_pixels.
std::unique_ptr<ImageDecoder> open_image(const std::string& path, const DecodeOptions& options, Wanted wanted);

// From the size of an upright image to the size wanted.
using SizeRule = std::function<ImageInfo(ImageInfo)>;
// Decodes into a resize to the size that the rule gives, holding at most `limit` bytes besides some rows: of the
// decoder, of the image when it must be turned, and of the result.
Image load_resized(const std::string& path, const DecodeOptions& options, int64_t limit, Resample resample,
                   const SizeRule& rule);
// Throws Error, naming the path, when an image of the new size is larger than `limit` bytes.
void check_resized_bytes(ImageInfo size, ImageInfo resized, int64_t limit, const std::string& path);

// The orientation in a TIFF structure, as EXIF has it; 1 when there is none or it makes no sense.
int exif_orientation(const uint8_t* data, size_t size);

}  // namespace duet::train
