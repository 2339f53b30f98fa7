#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <cstring>

#include "duet/core/memory.h"
#include "duet/tests/train/test_image_files.h"
#include "duet/train/image_decoder.h"
#include "duet/train/image_steps.h"

namespace duet::train {
namespace {

class BadImageTest : public ImageFiles {
 protected:
  // Both ways of loading must refuse the file, naming it.
  void expect_bad(const std::string& file, const std::string& reason) {
    expect_error([&] { load_image(file); }, "[image] " + file + ": ", reason);
    expect_error([&] { load_image_at_most(file, 8, Resample::bilinear); }, "[image] " + file + ": ", reason);
  }
};

void put32(std::string& bytes, size_t at, uint32_t value) {
  for (int i = 0; i < 4; ++i) bytes[at + static_cast<size_t>(i)] = static_cast<char>(value >> (24 - 8 * i));
}

// Signature 8, then length 4, "IHDR" 4, width 4, height 4, depth, type, compression, filter, interlacing, CRC 4.
std::string with_png_size(std::string png, uint32_t width, uint32_t height) {
  put32(png, 16, width);
  put32(png, 20, height);
  put32(png, 29, static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(png.data() + 12), 17)));
  return png;
}

// The start-of-frame segment: FF, type, length 2, precision 1, height 2, width 2.
std::string with_jpeg_size(std::string jpeg, char frame_type, uint32_t width, uint32_t height) {
  const size_t frame = jpeg.find(std::string{'\xFF', frame_type, '\0'});
  EXPECT_NE(frame, jpeg.npos);
  for (const auto& [at, value] : {std::pair{frame + 5, height}, {frame + 7, width}}) {
    jpeg[at] = static_cast<char>(value >> 8);
    jpeg[at + 1] = static_cast<char>(value);
  }
  return jpeg;
}

TEST_F(BadImageTest, WhatIsNoImage) {
  expect_bad(path("missing.png"), "cannot open: No such file or directory");
  expect_bad(directory_.string(), "is a directory");
  expect_bad(write("empty.png", ""), "the file is empty");
  expect_bad(write("text.png", "this is text"), "is neither PNG nor JPEG");
  expect_bad(write("short.png", "\x89P"), "is neither PNG nor JPEG");
  expect_bad(write("a.gif", "GIF89a\1\0\1\0"), "is neither PNG nor JPEG");
}

TEST_F(BadImageTest, TruncatedPng) {
  const std::string png = read_file(fixture("c6_d8.png"));
  for (const size_t size : {size_t{4}, size_t{7}, size_t{20}, size_t{32}, size_t{40}, size_t{41}, png.size() / 2,
                            png.size() - 17, png.size() - 12, png.size() - 1})
    expect_bad(write("a" + std::to_string(size) + ".png", png.substr(0, size)), "the file ends too early");
  const std::string interlaced = read_file(fixture("c6_d8_adam7.png"));
  expect_bad(write("b.png", interlaced.substr(0, interlaced.size() / 2)), "the file ends too early");
}

TEST_F(BadImageTest, DamagedPng) {
  const std::string png = read_file(fixture("c3_d8_trns.png"));
  for (const char* kind : {"IHDR", "PLTE", "tRNS", "IDAT", "IEND"}) {
    std::string bad = png;
    const size_t at = bad.find(kind);
    ASSERT_NE(at, bad.npos);
    uint32_t length = 0;
    for (size_t i = at - 4; i < at; ++i) length = length << 8 | static_cast<uint8_t>(bad[i]);
    bad[at + 4 + length] = static_cast<char>(bad[at + 4 + length] ^ 1);
    expect_bad(write(std::string(kind) + ".png", bad), "CRC error");
  }
  // Sound chunks around a broken zlib stream.
  std::string bad = png;
  const size_t at = bad.find("IDAT");
  uint32_t length = 0;
  for (size_t i = at - 4; i < at; ++i) length = length << 8 | static_cast<uint8_t>(bad[i]);
  std::memset(bad.data() + at + 20, 0x5A, length - 24);
  put32(bad, at + 4 + length,
        static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(bad.data() + at), length + 4)));
  expect_bad(write("zlib.png", bad), "damaged PNG: ");
  // Fewer rows than promised.
  expect_bad(write("rows.png", with_png_size(png, 19, 14)), "damaged PNG: ");
}

TEST_F(BadImageTest, AbsurdPngSizes) {
  const std::string png = read_file(fixture("c2_d8.png"));
  expect_bad(write("zero.png", with_png_size(png, 0, 13)), "Image width is zero in IHDR");
  expect_bad(write("flat.png", with_png_size(png, 19, 0)), "Image height is zero in IHDR");
  expect_bad(write("wide.png", with_png_size(png, 0x7FFFFFFF, 1)), "Image width exceeds user limit in IHDR");
  expect_bad(write("negative.png", with_png_size(png, 0x80000000, 1)), "damaged PNG: ");
  expect_bad(write("giga.png", with_png_size(png, 40000, 40000)),
             "40000 x 40000 pixels are more than the limit of 1000000000");
  const std::string small = fixture("c2_d8.png");
  EXPECT_EQ(load_image(small, {.max_pixels = 247}).width, 19);
  expect_error([&] { load_image(small, {.max_pixels = 246}); }, small, "19 x 13 pixels are more than the limit of 246");
  expect_error([&] { read_image_info(small, {.max_pixels = 246}); }, small, "more than the limit of 246");
}

TEST_F(BadImageTest, PromisedPixelsCostNoMemory) {
  constexpr int side = 30000;
  const std::string file = write("promise.png", with_png_size(read_file(fixture("c2_d8.png")), side, side));
  int64_t limit = int64_t{64} << 20;
#if defined(__SANITIZE_ADDRESS__)
  limit += int64_t{3} * side * side / 8;  // its shadow bytes for the 2.7 GB that are reserved and never touched
#endif
  reset_peak_rss();
  const int64_t before = peak_rss_bytes();
  expect_bad(file, "damaged PNG: ");
  EXPECT_LT(peak_rss_bytes() - before, limit);
}

TEST_F(BadImageTest, TruncatedJpeg) {
  for (const char* name : {"ycc420.jpg", "progressive.jpg", "cmyk.jpg"}) {
    const std::string jpeg = read_file(fixture(name));
    for (const size_t size : {size_t{2}, size_t{3}, size_t{11}, size_t{100}, jpeg.size() - 40, jpeg.size() - 2})
      expect_bad(write(std::to_string(size) + name, jpeg.substr(0, size)), "the file is truncated");
  }
}

TEST_F(BadImageTest, DamagedJpeg) {
  const std::string jpeg = read_file(fixture("ycc444.jpg"));
  // The data of the scan stops in the middle, with a proper end: libjpeg would fill the rest with grey.
  expect_bad(write("half.jpg", jpeg.substr(0, jpeg.size() - 150) + "\xFF\xD9"), "premature end of data segment");
  expect_bad(write("noise.jpg", std::string("\xFF\xD8\xFF\xE0\0\4xx", 8) + std::string(200, 'x')), "damaged JPEG: ");
  expect_bad(write("zero.jpg", with_jpeg_size(jpeg, '\xC0', 23, 0)), "damaged JPEG: ");
  expect_bad(write("giga.jpg", with_jpeg_size(jpeg, '\xC0', 40000, 40000)),
             "40000 x 40000 pixels are more than the limit of 1000000000");
  std::string deep = jpeg;
  deep[deep.find(std::string("\xFF\xC0\0", 3)) + 4] = 12;
  expect_bad(write("deep.jpg", deep), "Unsupported JPEG data precision 12");
}

TEST_F(BadImageTest, WhatCannotBeStreamedHasALimit) {
  const auto expect_refused = [&](const std::string& file, const std::string& reason) {
    expect_error([&] { load_image_at_most(file, 8, Resample::bilinear); }, file, reason);
    expect_error([&] { load_image_at_most(file, 8, Resample::bilinear); }, file, "more than the limit of 256 MiB");
    expect_error([&] { load_fitted(file, {.fit = Fit::pad, .resample = Resample::bilinear}, 8); }, file,
                 "the limit of 256 MiB");
  };
  expect_refused(write("adam7.png", with_png_size(read_file(fixture("c2_d8_adam7.png")), 10000, 9000)),
                 "10000 x 9000 pixels in an interlaced or progressive file would need 257 MiB");
  expect_refused(write("exif6.png", with_png_size(read_file(fixture("exif6.png")), 10000, 9000)),
                 "10000 x 9000 pixels with EXIF orientation 6 would need 257 MiB");
  expect_refused(write("progressive.jpg", with_jpeg_size(read_file(fixture("progressive.jpg")), '\xC2', 10000, 10000)),
                 "10000 x 10000 pixels in an interlaced or progressive file");
}

TEST_F(BadImageTest, NonsenseExifMeansUpright) {
  const auto orientation = [](const std::string& bytes) {
    return exif_orientation(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  };
  const std::string big("MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0", 26);
  const std::string little("II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x08\0\0\0\0\0\0\0", 26);
  EXPECT_EQ(orientation(big), 6);
  EXPECT_EQ(orientation(little), 8);
  EXPECT_EQ(orientation(std::string("Exif\0\0", 6) + big), 6);
  for (size_t size = 0; size < 22; ++size) EXPECT_EQ(orientation(big.substr(0, size)), 1) << size;
  for (const auto& [at, value] :
       {std::pair{0, 'X'}, {3, '+'}, {4, '\x7F'}, {7, '\xFF'}, {11, '\x13'}, {13, '\4'}, {19, '\0'}, {19, '\x09'}}) {
    std::string bad = big;
    bad[static_cast<size_t>(at)] = value;
    EXPECT_EQ(orientation(bad), 1) << at;
  }
}

// Every damaged byte must end in pixels or an Error, never in a crash; the sanitizers look on.
TEST_F(BadImageTest, SurvivesDamageAnywhere) {
  const int memory = ::memfd_create("damaged", 0);  // thousands of files, without the disk
  ASSERT_GE(memory, 0);
  const std::string file = "/proc/self/fd/" + std::to_string(memory);
  for (const char* name : {"c3_d4_trns.png", "c4_d8_adam7.png", "exif6.jpg", "progressive.jpg", "ycck.jpg"}) {
    const std::string good = read_file(fixture(name));
    size_t refused = 0;
    ASSERT_EQ(::ftruncate(memory, static_cast<off_t>(good.size())), 0);
    for (size_t at = 0; at < good.size(); ++at) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
      ASSERT_EQ(::pwrite(memory, bad.data(), bad.size(), 0), static_cast<ssize_t>(bad.size()));
      try {
        // Damage may also turn it into a sound, large and slow image; hence the limit.
        load_image_at_most(file, 8, Resample::bilinear, {.max_pixels = 100'000});
      } catch (const Error&) {
        ++refused;
      }
    }
    EXPECT_GT(refused, 10u) << name;
    // In a PNG every byte is under a checksum.
    if (std::strstr(name, ".png")) {
      EXPECT_EQ(refused, good.size()) << name;
    }
  }
  ::close(memory);
}

}  // namespace
}  // namespace duet::train
