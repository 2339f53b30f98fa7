// jpeglib.h needs size_t and FILE.
#include <cstddef>
#include <cstdio>

#include <jpeglib.h>

#include <jerror.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "duet/core/error.h"
#include "duet/train/image_decoder.h"

namespace duet::train {
namespace {

// A progressive file of a few kilobytes can ask for thousands of passes over a large image.
constexpr int most_scans = 500;

// All that libjpeg's callbacks touch; trivial, since errors leave it by longjmp.
struct Jpeg {
  jpeg_decompress_struct decoder;
  jpeg_error_mgr errors;
  jpeg_progress_mgr progress;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

// Every call into libjpeg goes through here, in a body whose own objects are all trivial: see image_png.cpp.
template <class Body>
[[gnu::noinline]] bool succeeds(Jpeg& jpeg, Body& body) {
  if (setjmp(jpeg.jump) != 0) return false;
  body();
  return true;
}

[[noreturn]] void on_error(j_common_ptr common) {
  auto* jpeg = static_cast<Jpeg*>(common->client_data);
  common->err->format_message(common, jpeg->message);
  std::longjmp(jpeg->jump, 1);
}

// libjpeg only warns of missing or damaged data and makes up the pixels; those warnings are errors here. The others
// (bytes between segments, odd version numbers) harm no pixel and are dropped.
void on_message(j_common_ptr common, int level) {
  if (level >= 0) return;
  switch (common->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_MUST_RESYNC:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
      on_error(common);
    default:
      break;
  }
}

void on_progress(j_common_ptr common) {
  auto* jpeg = static_cast<Jpeg*>(common->client_data);
  if (jpeg->decoder.input_scan_number <= most_scans) return;
  std::snprintf(jpeg->message, sizeof jpeg->message, "more than %d scans", most_scans);
  std::longjmp(jpeg->jump, 1);
}

// Photoshop stores CMYK inverted, and nearly all CMYK JPEGs come from there; like Pillow, take it for granted.
void cmyk_row(const uint8_t* inverted, int width, uint8_t* rgb) {
  for (int x = 0; x < width; ++x, inverted += 4, rgb += 3) {
    const int key = inverted[3];
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - inverted[c]) * key + 128;
      rgb[c] = static_cast<uint8_t>(std::max(0, key - (((product >> 8) + product) >> 8)));
    }
  }
}

class JpegDecoder final : public ImageDecoder {
 public:
  JpegDecoder(File file, const std::string& path) : file_(std::move(file)), path_(path) {
    try {
      read_header();
    } catch (...) {
      jpeg_destroy_decompress(&jpeg_.decoder);
      throw;
    }
  }
  ~JpegDecoder() override { jpeg_destroy_decompress(&jpeg_.decoder); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  void read_row(uint8_t* rgb) override {
    if (!started_) {
      started_ = true;
      run([&] { jpeg_start_decompress(&jpeg_.decoder); });
      if (cmyk_) row_.resize(static_cast<size_t>(width_) * 4);
    }
    JSAMPROW row = cmyk_ ? row_.data() : rgb;
    run([&] { jpeg_read_scanlines(&jpeg_.decoder, &row, 1); });
    if (cmyk_) cmyk_row(row_.data(), width_, rgb);
  }

  void finish() override {
    run([&] { jpeg_finish_decompress(&jpeg_.decoder); });
  }

 private:
  template <class Body>
  void run(Body body) {
    if (succeeds(jpeg_, body)) return;
    const bool truncated = jpeg_.errors.msg_code == JWRN_JPEG_EOF || jpeg_.errors.msg_code == JERR_INPUT_EMPTY;
    fail("image", path_, ": damaged JPEG: ", jpeg_.message, truncated ? " (the file is truncated)" : "");
  }

  void read_header() {
    jpeg_decompress_struct& decoder = jpeg_.decoder;
    decoder.err = jpeg_std_error(&jpeg_.errors);
    decoder.client_data = &jpeg_;
    jpeg_.errors.error_exit = on_error;
    jpeg_.errors.emit_message = on_message;
    jpeg_.progress.progress_monitor = on_progress;
    run([&] {
      jpeg_create_decompress(&decoder);
      decoder.progress = &jpeg_.progress;
      jpeg_stdio_src(&decoder, file_.get());
      jpeg_save_markers(&decoder, JPEG_APP0 + 1, 0xFFFF);
      jpeg_read_header(&decoder, TRUE);
    });
    width_ = static_cast<int>(decoder.image_width);
    height_ = static_cast<int>(decoder.image_height);
    cmyk_ = decoder.jpeg_color_space == JCS_CMYK || decoder.jpeg_color_space == JCS_YCCK;
    decoder.out_color_space = cmyk_ ? JCS_CMYK : JCS_RGB;
    // The default, but the bits of every pixel depend on it.
    decoder.dct_method = JDCT_ISLOW;
    constexpr char prefix[] = "Exif\0";  // with the terminator, six bytes
    for (const jpeg_marker_struct* marker = decoder.marker_list; marker; marker = marker->next)
      if (marker->data_length > sizeof prefix && std::memcmp(marker->data, prefix, sizeof prefix) == 0) {
        orientation_ = exif_orientation(marker->data + sizeof prefix, marker->data_length - sizeof prefix);
        break;
      }
    if (jpeg_has_multiple_scans(&decoder))
      for (int i = 0; i < decoder.num_components; ++i) {
        const jpeg_component_info& component = decoder.comp_info[i];
        buffered_bytes_ += int64_t{component.width_in_blocks} * component.height_in_blocks * DCTSIZE2 *
                           static_cast<int64_t>(sizeof(JCOEF));
      }
  }

  File file_;
  std::string path_;
  Jpeg jpeg_{};
  bool started_ = false, cmyk_ = false;
  std::vector<uint8_t> row_;  // of CMYK
};

}  // namespace

std::unique_ptr<ImageDecoder> open_jpeg(File file, const std::string& path, const DecodeOptions&, Wanted) {
  return std::make_unique<JpegDecoder>(std::move(file), path);
}

}  // namespace duet::train
