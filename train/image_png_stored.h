#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>

namespace duet::train {

// A PNG file in memory, every checksum compared, with its image data stored instead of compressed, so that libpng's
// zlib has nothing to do but to copy: libdeflate inflates two to three times faster, but needs the whole of input and
// output at once. The new image chunk has no checksum; none is to be compared again.
struct StoredPng {
  std::unique_ptr<uint8_t[]> bytes;
  size_t size = 0;
};

constexpr size_t stored_png_limit_bytes = size_t{16} << 20;  // of inflated image data

// Empty for everything out of the ordinary, of which libpng is to judge by the file itself: interlaced, larger than
// the limit or than max_pixels, truncated, or damaged in any way; and where there is not enough memory. Then the file
// is where it was, at its beginning.
StoredPng store_png(FILE* file, int64_t max_pixels);

}  // namespace duet::train
