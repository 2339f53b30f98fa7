#include <png.h>

#include <cstdio>

#include "duet/core/memory.h"
#include "duet/tests/real_data.h"
#include "duet/tests/train/test_image_files.h"
#include "duet/train/image_steps.h"

namespace duet::train {
namespace {

constexpr int64_t bound = int64_t{64} << 20;

using ImageMemoryTest = ImageFiles;

// Blocks with an edge inside most windows; a function of the place, so that no whole image is needed to write it.
uint8_t value_at(int x, int y, int channel) {
  return static_cast<uint8_t>((x / 7) * 37 + (y / 11) * 91 + channel * 50);
}

// RGBA, written row by row: 144 MB of pixels in a file of a few.
void write_large_png(const std::string& path, int side) {
  FILE* file = std::fopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_init_io(png, file);
  png_set_compression_level(png, 1);
  png_set_filter(png, 0, PNG_FILTER_UP);
  png_set_IHDR(png, info, static_cast<png_uint_32>(side), static_cast<png_uint_32>(side), 8, PNG_COLOR_TYPE_RGBA,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  std::vector<uint8_t> row(static_cast<size_t>(side) * 4, 255);
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x)
      for (int c = 0; c < 3; ++c) row[static_cast<size_t>(x) * 4 + static_cast<size_t>(c)] = value_at(x, y, c);
    png_write_row(png, row.data());
  }
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  std::fclose(file);
}

TEST_F(ImageMemoryTest, MemoryGrowsWithRowsNotWithTheArea) {
  constexpr int side = 6000;
  write_large_png(path("large.png"), side);
  reset_peak_rss();
  const int64_t before = peak_rss_bytes();
  const Image small = load_image_at_most(path("large.png"), 256, Resample::bilinear);
  const Image fitted = load_fitted(path("large.png"), {.fit = Fit::pad, .resample = Resample::bicubic}, 64);
  EXPECT_LT(peak_rss_bytes() - before, bound);

  Image whole{side, side, {}};
  whole.rgb.reserve(size_t{side} * side * 3);
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x)
      for (int c = 0; c < 3; ++c) whole.rgb.push_back(value_at(x, y, c));
  // The bound means something only where the whole image would break it.
  EXPECT_GT(peak_rss_bytes() - before, bound);
  EXPECT_EQ(small.rgb, resize(whole, 256, 256, Resample::bilinear).rgb);
  EXPECT_EQ(fitted.rgb, resize(whole, 64, 64, Resample::bicubic).rgb);
}

TEST_F(ImageMemoryTest, LoadsTheLargestClipArt) {
  const std::string giant = "/usr/share/openclipart/png/signs_and_symbols/stop_sign_miguel_s_nchez_.png";
  if (!testing::has_real_data({giant})) return;
  const ImageInfo info = read_image_info(giant);
  EXPECT_EQ(info.width, 20990);
  EXPECT_EQ(info.height, 29700);
  reset_peak_rss();
  const int64_t before = peak_rss_bytes();
  const Image image = load_image_at_most(giant, 256, Resample::bilinear);
  EXPECT_LT(peak_rss_bytes() - before, bound);
  EXPECT_EQ(image.width, 181);
  EXPECT_EQ(image.height, 256);
  EXPECT_EQ(image.rgb[0], 255);  // a clear corner, so white
}

}  // namespace
}  // namespace duet::train
