#include "duet/train/image_steps.h"

#include <zlib.h>

#include <cmath>
#include <sstream>

#include "duet/core/memory.h"
#include "duet/tests/train/test_image_files.h"

namespace duet::train {
namespace {

using ImageStepsTest = ImageFiles;

ImageSteps clip(int edge, ImageInfo crop) {
  return {.fit = Fit::shortest_edge, .resample = Resample::bicubic, .shortest_edge = edge, .crop = crop};
}

TEST_F(ImageStepsTest, ShortestEdgeAndCropMatchHuggingFace) {
  std::istringstream lines(read_file(fixture("expected.txt")));
  int cases = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string kind;
    int width, height, edge, crop_height, crop_width;
    unsigned long expected;
    in >> kind;
    if (kind != "crop") continue;
    in >> width >> height >> edge >> crop_height >> crop_width >> std::hex >> expected;
    ASSERT_TRUE(in) << line;
    const ImageSteps steps = clip(edge, {crop_width, crop_height});
    const Image image = test_pattern(width, height), out = fit_image(image, steps, 1);
    EXPECT_EQ(out.width, crop_width);
    EXPECT_EQ(out.height, crop_height);
    EXPECT_EQ(::crc32(0, out.rgb.data(), static_cast<uInt>(out.rgb.size())), expected) << line;
    EXPECT_EQ(load_fitted(write("a.png", encode_png(image)), steps, 1).rgb, out.rgb) << line;
    ++cases;
  }
  EXPECT_EQ(cases, 9);
}

TEST_F(ImageStepsTest, ShortestEdgeCutsTheQuotient) {
  const Image image = test_pattern(31, 47);  // 20 * 47 / 31 = 30.3, 24 * 47 / 31 = 36.4, 29 * 47 / 31 = 43.97
  for (const auto& [edge, longer] : {std::pair{20, 30}, {24, 36}, {29, 43}, {31, 47}}) {
    const Image out = fit_image(image, {.fit = Fit::shortest_edge, .shortest_edge = edge}, 1);
    EXPECT_EQ(out.width, edge);
    EXPECT_EQ(out.height, longer);
  }
}

TEST_F(ImageStepsTest, CropTakesTheMiddleAndFillsWithBlack) {
  Image row{5, 1, {}};
  for (const uint8_t v : {10, 20, 30, 40, 50}) row.rgb.insert(row.rgb.end(), 3, v);
  const auto reds = [&](int width) {
    std::vector<int> values;
    const Image out = centre_crop(row, {width, 1});
    for (size_t i = 0; i < out.rgb.size(); i += 3) values.push_back(out.rgb[i]);
    return values;
  };
  EXPECT_EQ(reds(5), (std::vector{10, 20, 30, 40, 50}));
  EXPECT_EQ(reds(4), (std::vector{10, 20, 30, 40}));  // floor(1 / 2) = 0
  EXPECT_EQ(reds(3), (std::vector{20, 30, 40}));
  EXPECT_EQ(reds(6), (std::vector{0, 10, 20, 30, 40, 50}));  // floor(-1 / 2) = -1
  EXPECT_EQ(reds(7), (std::vector{0, 10, 20, 30, 40, 50, 0}));
  EXPECT_EQ(reds(8), (std::vector{0, 0, 10, 20, 30, 40, 50, 0}));
  // torchvision and timm round half to even: margins of 1, 3 and 5 begin at 0, 2 and 2.
  for (const auto& [width, first] : {std::pair(8, 0), {6, 2}, {4, 2}}) {
    Image nine{9, 1, {}};
    for (int x = 0; x < 9; ++x) nine.rgb.insert(nine.rgb.end(), 3, static_cast<uint8_t>(x));
    EXPECT_EQ(centre_crop(nine, {width, 1}, true).rgb[0], first) << width;
    EXPECT_EQ(centre_crop(nine, {width, 1}).rgb[0], (9 - width) / 2) << width;
  }
  const Image square = centre_crop(row, {1, 3});
  EXPECT_EQ(square.rgb, (std::vector<uint8_t>{0, 0, 0, 30, 30, 30, 0, 0, 0}));
  expect_error([&] { centre_crop(row, {0, 3}); }, "0 x 3", "positive");
}

TEST_F(ImageStepsTest, SizesNeedNotBeSquare) {
  const Image image = test_pattern(40, 30);
  const Image stretched = fit_image(image, {.fit = Fit::stretch, .size = ImageInfo{16, 24}}, 99);
  EXPECT_EQ(stretched.width, 16);
  EXPECT_EQ(stretched.height, 24);
  EXPECT_EQ(stretched.rgb, resize(image, 16, 24, Resample::bilinear).rgb);
  const Image padded = fit_image(image, {.fit = Fit::pad, .size = ImageInfo{16, 24}}, 99);  // 16 x 12, six rows above
  EXPECT_EQ(padded.height, 24);
  EXPECT_EQ(padded.rgb[0], 255);
  EXPECT_EQ(std::vector<uint8_t>(padded.rgb.begin() + 6 * 48, padded.rgb.begin() + 18 * 48),
            resize(image, 16, 12, Resample::bilinear).rgb);
  EXPECT_EQ(fit_image(image, {.fit = Fit::keep}, 99).rgb, image.rgb);
  EXPECT_EQ(load_fitted(write("a.png", encode_png(image)), {.fit = Fit::keep}, 99).rgb, image.rgb);
  expect_error([&] { fit_image(image, {.fit = Fit::shortest_edge}, 9); }, "shortest edge", "got 0");
}

TEST_F(ImageStepsTest, ResultsMustFitTheModel) {
  check_output_size({}, 64);
  check_output_size(clip(80, {64, 64}), 64);
  check_output_size({.fit = Fit::keep}, 64);  // depends on the image
  expect_error(
      [] {
        check_output_size({.fit = Fit::stretch, .size = ImageInfo{20, 10}}, 64);
      },
      "20 x 10", "takes 64 x 64; change size");
  expect_error([] { check_output_size(clip(80, {80, 80}), 64); }, "80 x 80", "change crop_size");
  const Image image = test_pattern(64, 32);
  check_image_size(test_pattern(64, 64), {.fit = Fit::keep}, 64, "a.png");
  expect_error([&] { check_image_size(image, {.fit = Fit::keep}, 64, "a.png"); }, "a.png: came out at 64 x 32",
               "set do_resize");
  expect_error([&] { check_image_size(image, {.fit = Fit::shortest_edge, .shortest_edge = 32}, 64, "a.png"); },
               "takes 64 x 64", "set do_center_crop");
}

// A line of a few pixels would become a strip of 600 MB.
TEST_F(ImageStepsTest, ExtremeRatiosAreRefusedBeforeTheyCostMemory) {
  Image line{4000, 1, std::vector<uint8_t>(12000, 7)};
  const std::string file = write("line.png", encode_png(line));
  reset_peak_rss();
  const int64_t before = peak_rss_bytes();
  expect_error([&] { load_fitted(file, clip(224, {224, 224}), 224); }, file, "4000 x 1 pixels become 896000 x 224");
  expect_error([&] { fit_image(line, clip(224, {224, 224}), 224); }, "896000 x 224", "limit of 256 MiB");
  EXPECT_LT(peak_rss_bytes() - before, int64_t{64} << 20);
}

TEST_F(ImageStepsTest, AnyFactorIsRoundedAsHuggingFaceRounds) {
  Image image{256, 1, {}};
  for (int v = 0; v < 256; ++v) image.rgb.insert(image.rgb.end(), 3, static_cast<uint8_t>(v));
  std::vector<float> out(768);
  const ImageSteps steps{.rescale_factor = 1.0 / 127.5, .mean = {1, 0.3f, 0}, .deviation = {1, 0.7f, 1}};
  to_chw(image, steps, out.data());
  for (size_t v = 0; v < 256; ++v) {
    const auto scaled = static_cast<float>(static_cast<double>(v) * (1.0 / 127.5));
    EXPECT_EQ(out[v], scaled - 1);
    EXPECT_EQ(out[256 + v], (scaled - 0.3f) / 0.7f);
    EXPECT_EQ(out[512 + v], scaled);
  }
  to_chw(image, {.rescale_factor = 1, .mean = {0, 0, 0}, .deviation = {1, 1, 1}}, out.data());
  EXPECT_EQ(out[255], 255.f);
}

}  // namespace
}  // namespace duet::train
