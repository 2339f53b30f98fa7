#include "duet/train/image_png_stored.h"

#include <libdeflate.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace duet::train {
namespace {

// libpng has limits on the length of a chunk, of which the lowest is above this.
constexpr size_t largest_file = 7'000'000;
constexpr size_t signature_bytes = 8, chunk_frame = 12;  // a chunk's length, type and checksum
constexpr size_t header_end = signature_bytes + chunk_frame + 13;
constexpr size_t stored_block = 65535, stored_block_head = 5;

using Bytes = std::unique_ptr<uint8_t[]>;

// Null where there is not enough memory: a file can be read without.
Bytes room(size_t size) {
  return Bytes(new (std::nothrow) uint8_t[size]);
}

uint32_t get32(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

void put32(uint8_t* at, uint32_t value) {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

bool is_chunk(const uint8_t* chunk, const char* type) {
  return std::memcmp(chunk + 4, type, 4) == 0;
}

// Bytes of the inflated image data by the file's header, or 0 when it is none of ours.
size_t inflated_bytes(const uint8_t* file, int64_t max_pixels) {
  const uint8_t* header = file + signature_bytes;
  if (std::memcmp(file, "\x89PNG\r\n\x1A\n", signature_bytes) != 0 || get32(header) != 13 || !is_chunk(header, "IHDR"))
    return 0;
  const uint64_t width = get32(header + 8), height = get32(header + 12);
  const uint8_t *const format = header + 16, depth = format[0];
  // By colour type: grey, none, RGB, palette, grey and alpha, none, RGBA.
  constexpr uint8_t channels[] = {1, 0, 3, 1, 2, 0, 4};
  const uint8_t samples = format[1] < sizeof channels ? channels[format[1]] : 0;
  const bool plain = format[2] == 0 && format[3] == 0 && format[4] == 0;  // compression, filter, interlacing
  const bool sound_depth = depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
  if (!plain || !sound_depth || samples == 0 || width == 0 || height == 0) return 0;
  if (width > stored_png_limit_bytes || height > stored_png_limit_bytes) return 0;
  if (width * height > static_cast<uint64_t>(max_pixels)) return 0;
  const uint64_t bytes = height * (1 + (width * samples * depth + 7) / 8);
  return bytes <= stored_png_limit_bytes ? static_cast<size_t>(bytes) : 0;
}

// Where the image data lie: chunks from `begin` to `end`, whose contents stand together from `data` on.
struct ImageData {
  size_t begin = 0, end = 0, data = 0, bytes = 0;
  size_t file_end = 0;  // behind IEND; what follows nobody reads
};

// Compares every checksum up to IEND and moves the contents of the image chunks together. False when a checksum is
// wrong, IEND is missing or image chunks are not all in a row.
bool gather_image_data(uint8_t* file, size_t size, ImageData& found) {
  for (size_t at = signature_bytes; size - at >= chunk_frame;) {
    uint8_t* const chunk = file + at;
    const size_t length = get32(chunk), rest = size - at - chunk_frame;
    if (length > rest || libdeflate_crc32(0, chunk + 4, length + 4) != get32(chunk + 8 + length)) return false;
    at += chunk_frame + length;
    if (is_chunk(chunk, "IEND")) {
      found.file_end = at;
      return found.begin != 0;
    }
    if (is_chunk(chunk, "IDAT")) {
      if (found.begin == 0) {
        found.begin = static_cast<size_t>(chunk - file);
        found.data = found.begin + 8;
      } else if (chunk != file + found.end) {
        return false;
      }
      // From the second chunk on this writes over the chunk's own head.
      std::memmove(file + found.data + found.bytes, chunk + 8, length);
      found.bytes += length;
      found.end = at;
    }
  }
  return false;
}

// zlib's stream holds exactly `bytes`, which go to `out`.
bool inflate_exactly(const uint8_t* stream, size_t stream_bytes, uint8_t* out, size_t bytes) {
  if (stream_bytes < 6) return false;
  // Unlike zlib, libdeflate accepts references to what is no longer in the window that the stream announces.
  const unsigned window_bits = 8u + (stream[0] >> 4);
  if (window_bits > 15 || (window_bits < 15 && bytes > size_t{1} << window_bits)) return false;
  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> decompressor(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  size_t read = 0;
  // Without a place for the size, anything but `bytes` is an error. Its checksum is compared as well: codes that only
  // zlib refuses do not pass for an image by accident.
  return decompressor != nullptr &&
         libdeflate_zlib_decompress_ex(decompressor.get(), stream, stream_bytes, out, bytes, &read, nullptr) ==
             LIBDEFLATE_SUCCESS &&
         read == stream_bytes;
}

// Puts the heads of stored blocks among the data, which begin at `to` after the heads' room.
void divide_into_blocks(uint8_t* to, size_t blocks, size_t bytes) {
  const uint8_t* from = to + blocks * stored_block_head;
  for (size_t left = bytes; left > 0;) {
    const size_t length = std::min(left, stored_block);
    left -= length;
    // A head is the number of the last block or 0, and the length, also inverted, least byte first.
    const auto low = static_cast<uint8_t>(length), high = static_cast<uint8_t>(length >> 8);
    std::memmove(to + stored_block_head, from, length);
    const uint8_t head[] = {left == 0, low, high, static_cast<uint8_t>(~low), static_cast<uint8_t>(~high)};
    std::memcpy(to, head, sizeof head);
    to += stored_block_head + length;
    from += length;
  }
}

StoredPng stored(uint8_t* file, size_t size, size_t inflated) {
  ImageData data;
  if (!gather_image_data(file, size, data)) return {};
  constexpr size_t zlib_head = 2, zlib_end = 4;
  const size_t blocks = (inflated + stored_block - 1) / stored_block, tail = data.file_end - data.end;
  const size_t chunk = zlib_head + blocks * stored_block_head + inflated + zlib_end;
  StoredPng png{room(data.begin + chunk_frame + chunk + tail), 0};
  if (png.bytes == nullptr) return {};
  uint8_t* to = png.bytes.get() + data.begin + 8;
  if (!inflate_exactly(file + data.data, data.bytes, to + zlib_head + blocks * stored_block_head, inflated)) return {};
  std::memcpy(png.bytes.get(), file, data.begin);
  put32(to - 8, static_cast<uint32_t>(chunk));
  std::memcpy(to - 4, "IDAT", 4);
  // The smallest window, 256 bytes, since zlib copies that much of each row into it.
  std::memcpy(to, "\x08\x1D", zlib_head);
  divide_into_blocks(to + zlib_head, blocks, inflated);
  std::memcpy(to + chunk - zlib_end, file + data.data + data.bytes - zlib_end, zlib_end);
  put32(to + chunk, 0);
  std::memcpy(to + chunk + 4, file + data.end, tail);
  png.size = data.begin + chunk_frame + chunk + tail;
  return png;
}

}  // namespace

StoredPng store_png(FILE* file, int64_t max_pixels) {
  StoredPng png;
  uint8_t header[header_end];
  size_t inflated = 0;
  if (std::fread(header, 1, sizeof header, file) == sizeof header) inflated = inflated_bytes(header, max_pixels);
  if (inflated > 0 && std::fseek(file, 0, SEEK_END) == 0) {
    const long end = std::ftell(file);
    const auto size = static_cast<size_t>(std::max(end, 0L));
    if (size > header_end && size <= largest_file) {
      const Bytes bytes = room(size);
      std::rewind(file);
      if (bytes != nullptr && std::fread(bytes.get(), 1, size, file) == size) png = stored(bytes.get(), size, inflated);
    }
  }
  std::rewind(file);
  return png;
}

}  // namespace duet::train
