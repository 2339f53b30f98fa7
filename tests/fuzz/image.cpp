#include <zlib.h>

#include <cstring>
#include <string>

#include "duet/tests/fuzz/fuzz.h"
#include "duet/train/image_decoder.h"

namespace {

using namespace duet;

// All rows as stored, one after the other.
std::string rows_of(const uint8_t* data, size_t size, train::Wanted wanted) {
  const train::DecodeOptions options{.max_pixels = 1 << 20};
  const auto decoder =
      train::open_png(train::File(::fmemopen(const_cast<uint8_t*>(data), size, "rb")), "image", options, wanted);
  const auto row = static_cast<size_t>(decoder->width()) * 3;
  std::string all;
  for (int y = 0; y < decoder->height(); ++y) {
    all.resize(all.size() + row);
    decoder->read_row(reinterpret_cast<uint8_t*>(all.data() + all.size() - row));
  }
  decoder->finish();
  return all;
}

}  // namespace

// PNG and JPEG files. An odd size drops alpha and ignores the orientation, so that both settings are tried.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const bool plain = size % 2 == 1;
  fuzz::allow_errors([&] {
    const train::Image image =
        train::decode_image(fuzz::as_text(data, size), "image",
                            {.max_pixels = 1 << 20, .composite_on_white = !plain, .apply_orientation = !plain});
    const auto pixels = int64_t{image.width} * image.height;
    fuzz::require(image.width > 0 && image.height > 0 && pixels <= 1 << 20, "sizes are positive and within the limit");
    fuzz::require(image.rgb.size() == static_cast<size_t>(pixels) * 3, "every pixel is there");
    if (std::memcmp(data, "\x89PNG", 4) != 0) return;
    // What libpng alone reads must read the same with its data inflated ahead. Not the other way round: zlib refuses
    // some codes that no encoder makes.
    const std::string alone = rows_of(data, size, train::Wanted::size);
    bool same = false;
    fuzz::allow_errors([&] { same = rows_of(data, size, train::Wanted::rows) == alone; });
    fuzz::require(same, "a PNG is the same with its image data inflated ahead");
  });
  return 0;
}

#ifdef DUET_FUZZ
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

// Nearly every mutation of a PNG only breaks a checksum; with the checksums of its chunks corrected it gets further.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 == 0 || size < 8 || std::memcmp(data, "\x89PNG", 4) != 0) return size;
  for (size_t at = 8; at + 12 <= size;) {
    const size_t length =
        size_t{data[at]} << 24 | size_t{data[at + 1]} << 16 | size_t{data[at + 2]} << 8 | data[at + 3];
    if (length > size - at - 12) break;
    const auto sum = static_cast<uint32_t>(::crc32(0, data + at + 4, static_cast<uInt>(length + 4)));
    for (size_t i = 0; i < 4; ++i) data[at + 8 + length + i] = static_cast<uint8_t>(sum >> (24 - 8 * i));
    at += 12 + length;
  }
  return size;
}
#endif
