#include "duet/train/image_steps.h"

#include <zlib.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <sstream>

#include "duet/tests/train/test_image_files.h"

namespace duet::train {
namespace {

using ImageTest = ImageFiles;

unsigned long crc(const Image& image) {
  return ::crc32(0, image.rgb.data(), static_cast<uInt>(image.rgb.size()));
}

// What Pillow found in one file: the checksums over white, with alpha dropped, and so but without orientation.
struct Expected {
  std::string name;
  int width, height;
  unsigned long white, plain, stored;
};

std::vector<Expected> expected_files(const std::string& list, const std::string& suffix) {
  std::vector<Expected> all;
  std::istringstream lines(read_file(list));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string kind;
    Expected e;
    in >> kind >> e.name >> e.width >> e.height >> std::hex >> e.white >> e.plain >> e.stored;
    if (kind == "decode" && in && e.name.ends_with(suffix)) all.push_back(e);
  }
  return all;
}

TEST_F(ImageTest, DecodesEveryKindOfPngAsPillow) {
  const auto files = expected_files(fixture("expected.txt"), ".png");
  EXPECT_EQ(files.size(), 53u);  // colour types x depths x interlacing x transparency, and one with EXIF
  for (const Expected& e : files) {
    const Image image = load_image(fixture(e.name));
    EXPECT_EQ(image.width, e.width) << e.name;
    EXPECT_EQ(image.height, e.height) << e.name;
    EXPECT_EQ(crc(image), e.white) << e.name;
    EXPECT_EQ(crc(load_image(fixture(e.name), {.composite_on_white = false})), e.plain) << e.name;
    EXPECT_EQ(crc(load_image(fixture(e.name), {.composite_on_white = false, .apply_orientation = false})), e.stored)
        << e.name;
  }
}

// libjpeg builds differ in their SIMD code for the inverse transform, which the standard leaves room for, so a level
// of difference is no error.
TEST_F(ImageTest, DecodesEveryKindOfJpegAsPillow) {
  const auto files = expected_files(fixture("expected.txt"), ".jpg");
  EXPECT_EQ(files.size(), 16u);
  for (const Expected& e : files) {
    const Image image = load_image(fixture(e.name));
    const std::string rgb = read_file(fixture(e.name + ".rgb"));
    EXPECT_EQ(image.width, e.width) << e.name;
    EXPECT_EQ(image.height, e.height) << e.name;
    ASSERT_EQ(image.rgb.size(), rgb.size()) << e.name;
    int worst = 0;
    for (size_t i = 0; i < rgb.size(); ++i)
      worst = std::max(worst, std::abs(int{image.rgb[i]} - int{static_cast<uint8_t>(rgb[i])}));
    EXPECT_LE(worst, 1) << e.name;
  }
}

TEST_F(ImageTest, OrientationCanBeSwitchedOff) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const std::string file = fixture("exif" + std::to_string(orientation) + ".jpg");
    const Image stored = load_image(file, {.apply_orientation = false});
    EXPECT_EQ(stored.rgb, load_image(fixture("exif1.jpg")).rgb);
    EXPECT_EQ(stored.width, 23);
    EXPECT_EQ(read_image_info(file).width, orientation >= 5 ? 17 : 23);
    EXPECT_EQ(read_image_info(file).height, orientation >= 5 ? 23 : 17);
    EXPECT_EQ(read_image_info(file, {.apply_orientation = false}).width, 23);
  }
}

TEST_F(ImageTest, TellsFormatsApartByContent) {
  const std::string png = write("photo.jpg", read_file(fixture("c2_d8.png")));
  EXPECT_EQ(load_image(png).rgb, load_image(fixture("c2_d8.png")).rgb);
  const std::string jpeg = write("drawing.png", read_file(fixture("grey.jpg")));
  EXPECT_EQ(load_image(jpeg).rgb, load_image(fixture("grey.jpg")).rgb);
}

TEST_F(ImageTest, BytesDecodeAsTheirFile) {
  for (const char* name : {"c6_d8_adam7.png", "exif6.jpg", "cmyk.jpg"})
    EXPECT_EQ(decode_image(read_file(fixture(name)), name).rgb, load_image(fixture(name)).rgb) << name;
  const std::string png = read_file(fixture("c2_d8.png"));
  expect_error([&] { decode_image(png.substr(0, png.size() / 2), "half.png"); }, "half.png", "truncated");
  expect_error([] { decode_image("", "none.png"); }, "none.png", "empty");
  expect_error([&] { decode_image(png, "big.png", {.max_pixels = 100}); }, "big.png", "limit of 100");
}

TEST_F(ImageTest, EncodedPngsDecodeToTheSamePixels) {
  const Image image = test_pattern(37, 21);
  const Image back = load_image(write("a.png", encode_png(image)));
  EXPECT_EQ(back.width, 37);
  EXPECT_EQ(back.height, 21);
  EXPECT_EQ(back.rgb, image.rgb);
  expect_error([] { encode_png(Image{2, 2, {1, 2, 3}}); }, "2 x 2", "3 bytes");
  // A wave of many values, a thing for filters, and a few colours.
  for (const bool smooth : {true, false}) {
    Image drawn{200, 100, {}};
    for (int y = 0; y < 100; ++y)
      for (int x = 0; x < 200 * 3; ++x)
        drawn.rgb.push_back(static_cast<uint8_t>(smooth ? (x * x + y * y) >> 8 : (x / 90 + y / 20) % 3 * 100));
    const std::string png = encode_png(drawn);
    EXPECT_EQ(decode_image(png, "drawn.png").rgb, drawn.rgb);
    EXPECT_LT(png.size(), drawn.rgb.size() / (smooth ? 3 : 60));
  }
}

TEST_F(ImageTest, RowByRowLoadingGivesTheBitsOfTheWholeImage) {
  const std::string file = write("a.png", encode_png(test_pattern(301, 200)));
  const Image whole = load_image(file);
  for (const Resample resample : {Resample::bilinear, Resample::bicubic}) {
    const Image small = load_image_at_most(file, 64, resample);
    EXPECT_EQ(small.width, 64);
    EXPECT_EQ(small.height, 43);  // 200 * 64 / 301 = 42.5
    EXPECT_EQ(small.rgb, resize(whole, 64, 43, resample).rgb);
    for (const Fit fit : {Fit::pad, Fit::stretch})
      EXPECT_EQ(load_fitted(file, {.fit = fit, .resample = resample}, 96).rgb,
                fit_image(whole, {.fit = fit, .resample = resample}, 96).rgb);
  }
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const std::string rotated = fixture("exif" + std::to_string(orientation) + ".jpg");
    const Image upright = load_image(rotated), small = load_image_at_most(rotated, 10, Resample::bilinear);
    EXPECT_EQ(std::max(small.width, small.height), 10);
    EXPECT_EQ(small.rgb, resize(upright, small.width, small.height, Resample::bilinear).rgb) << orientation;
  }
  const std::string interlaced = fixture("c6_d8_adam7.png");
  EXPECT_EQ(load_image_at_most(interlaced, 8, Resample::bilinear).rgb,
            resize(load_image(interlaced), 8, 5, Resample::bilinear).rgb);  // 13 * 8 / 19 = 5.5, below in doubles
}

TEST_F(ImageTest, LoadingAtMostNeverEnlarges) {
  const Image image = test_pattern(30, 20);
  const std::string file = write("a.png", encode_png(image));
  EXPECT_EQ(load_image_at_most(file, 30, Resample::bilinear).rgb, image.rgb);
  EXPECT_EQ(load_image_at_most(file, 1000, Resample::bilinear).rgb, image.rgb);
  const Image thin = load_image_at_most(write("b.png", encode_png(test_pattern(400, 2))), 16, Resample::bilinear);
  EXPECT_EQ(thin.width, 16);
  EXPECT_EQ(thin.height, 1);
  expect_error([&] { load_image_at_most(file, 0, Resample::bilinear); }, file, "positive, got 0");
}

TEST_F(ImageTest, FitSquarePadsWithWhiteOrStretches) {
  const Image grey{4, 2, std::vector<uint8_t>(24, 100)};
  const Image padded =
      fit_image(grey, {.fit = Fit::pad, .resample = Resample::bilinear}, 7);  // 7 x 4, one row above, two below
  ASSERT_EQ(padded.rgb.size(), 147u);
  for (size_t y = 0; y < 7; ++y)
    for (size_t i = 0; i < 21; ++i) EXPECT_EQ(padded.rgb[y * 21 + i], y >= 1 && y <= 4 ? 100 : 255) << y;
  const Image tall{2, 4, std::vector<uint8_t>(24, 100)};
  const Image columns = fit_image(tall, {.fit = Fit::pad, .resample = Resample::bicubic}, 4);
  for (size_t y = 0; y < 4; ++y)
    for (size_t x = 0; x < 4; ++x) EXPECT_EQ(columns.rgb[(y * 4 + x) * 3], x == 1 || x == 2 ? 100 : 255);
  EXPECT_EQ(fit_image(grey, {.fit = Fit::stretch, .resample = Resample::bilinear}, 7).rgb,
            std::vector<uint8_t>(147, 100));
  const Image needle =
      fit_image(Image{300, 1, std::vector<uint8_t>(900, 0)}, {.fit = Fit::pad, .resample = Resample::bilinear}, 5);
  EXPECT_EQ(needle.rgb[2 * 15], 0);  // still one pixel high
  EXPECT_EQ(needle.rgb[15], 255);
  expect_error([&] { fit_image(grey, {.fit = Fit::pad, .resample = Resample::bilinear}, 0); }, "size to resize to",
               "got 0");
}

TEST_F(ImageTest, ToChwNormalisesPlanes) {
  Image image{256, 1, {}};
  for (int v = 0; v < 256; ++v)
    for (const int c : {v, 255 - v, 7}) image.rgb.push_back(static_cast<uint8_t>(c));
  const std::array<float, 3> mean{0.5f, 0.485f, 0.f}, deviation{0.5f, 0.229f, 1.f};
  std::vector<float> out(768);
  to_chw(image, {.mean = mean, .deviation = deviation}, out.data());
  EXPECT_EQ(out[0], -1.f);
  EXPECT_EQ(out[255], 1.f);
  EXPECT_EQ(out[512], static_cast<float>(7 * (1.0 / 255)));
  for (size_t i = 0; i < 256; ++i) {
    const double exact = (static_cast<double>(255 - i) / 255 - 0.485) / 0.229;
    EXPECT_NEAR(out[256 + i], exact, 1e-6);
  }
}

}  // namespace
}  // namespace duet::train
