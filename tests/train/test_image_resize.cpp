#include "duet/train/image_resize.h"

#include <zlib.h>

#include <algorithm>
#include <numeric>
#include <sstream>

#include "duet/tests/train/test_image_files.h"

namespace duet::train {
namespace {

using ImageResizeTest = ImageFiles;

std::vector<uint8_t> resized_row(const std::vector<uint8_t>& row, int size, Resample resample, bool vertical) {
  const auto n = static_cast<int>(row.size());
  Image image{vertical ? 1 : n, vertical ? n : 1, {}};
  for (const uint8_t v : row) image.rgb.insert(image.rgb.end(), 3, v);
  const Image out = resize(image, vertical ? 1 : size, vertical ? size : 1, resample);
  std::vector<uint8_t> values;
  for (size_t i = 0; i < out.rgb.size(); i += 3) {
    EXPECT_EQ(out.rgb[i], out.rgb[i + 1]);
    EXPECT_EQ(out.rgb[i], out.rgb[i + 2]);
    values.push_back(out.rgb[i]);
  }
  return values;
}

TEST_F(ImageResizeTest, OneAxisMatchesPillow) {
  const std::vector<uint8_t> row{0, 64, 128, 255, 10, 200, 77};
  using Bytes = std::vector<uint8_t>;
  for (const bool vertical : {false, true}) {
    EXPECT_EQ(resized_row(row, 3, Resample::bilinear, vertical), (Bytes{55, 153, 115}));
    EXPECT_EQ(resized_row(row, 10, Resample::bilinear, vertical), (Bytes{0, 35, 80, 125, 211, 169, 19, 153, 145, 77}));
    EXPECT_EQ(resized_row(row, 3, Resample::bicubic, vertical), (Bytes{54, 154, 115}));
    EXPECT_EQ(resized_row(row, 10, Resample::bicubic, vertical), (Bytes{0, 30, 79, 123, 236, 179, 10, 164, 155, 70}));
    EXPECT_EQ(resized_row(row, 7, Resample::bicubic, vertical), row);
  }
}

TEST_F(ImageResizeTest, ColoursMatchPillow) {
  Image image{6, 5, {}};
  for (int y = 0; y < 5; ++y)
    for (int x = 0; x < 6; ++x)
      for (const int v : {37 * x + 91 * y, 11 * x + 7 * y, 29 * x * y}) image.rgb.push_back(static_cast<uint8_t>(v));
  EXPECT_EQ(resize(image, 4, 3, Resample::bilinear).rgb,
            (std::vector<uint8_t>{53,  7,  5,   105, 23, 22,  158, 38, 40, 141, 54, 57,  139, 18, 22,  96, 34, 97,
                                  102, 49, 136, 118, 65, 122, 83,  29, 39, 135, 45, 156, 139, 60, 106, 94, 76, 132}));
  EXPECT_EQ(resize(image, 4, 3, Resample::bicubic).rgb,
            (std::vector<uint8_t>{51,  5,  3,   103, 21, 18,  167, 38, 41, 140, 54, 56,  146, 17, 17,  92, 33, 97,
                                  101, 50, 145, 122, 66, 128, 79,  29, 32, 137, 45, 168, 139, 62, 102, 90, 78, 134}));
}

Resample resample_named(const std::string& name) {
  for (int i = 0; i < 6; ++i)
    if (name == resample_name(static_cast<Resample>(i))) return static_cast<Resample>(i);
  ADD_FAILURE() << name;
  return {};
}

// Pillow adds up the steps, which is not always the rounded product.
TEST_F(ImageResizeTest, NearestFollowsPillowsSums) {
  int differing = 0;
  for (int to = 1; to < 300; ++to) {
    const AxisWeights axis = axis_weights(150, to, Resample::nearest);
    double position = 75.0 / to;
    for (int i = 0; i < to; ++i, position += 150.0 / to) {
      const auto& window = axis.windows[static_cast<size_t>(i)];
      EXPECT_EQ(window.first, static_cast<int>(position));
      EXPECT_EQ(window.count, 1);
      differing += window.first != static_cast<int>((i + 0.5) * 150 / to);
    }
  }
  EXPECT_GT(differing, 0);  // or the test would not tell the two rules apart
}

TEST_F(ImageResizeTest, ManySizesMatchPillow) {
  std::istringstream lines(read_file(fixture("expected.txt")));
  int cases = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string kind, filter;
    int width, height, new_width, new_height;
    unsigned long expected;
    in >> kind;
    if (kind != "resize") continue;
    in >> filter >> width >> height >> new_width >> new_height >> std::hex >> expected;
    ASSERT_TRUE(in) << line;
    const Image out = resize(test_pattern(width, height), new_width, new_height, resample_named(filter));
    ASSERT_EQ(out.rgb.size(), static_cast<size_t>(new_width * new_height * 3)) << line;
    EXPECT_EQ(::crc32(0, out.rgb.data(), static_cast<uInt>(out.rgb.size())), expected) << line;
    ++cases;
  }
  EXPECT_EQ(cases, 15 * 6);
}

TEST_F(ImageResizeTest, WeightsSumToOne) {
  for (const Resample resample :
       {Resample::nearest, Resample::lanczos, Resample::bilinear, Resample::bicubic, Resample::box, Resample::hamming})
    for (const auto& [from, to] : {std::pair{7, 3}, {3, 7}, {29700, 256}, {1, 9}, {1000, 999}}) {
      const AxisWeights axis = axis_weights(from, to, resample);
      ASSERT_EQ(axis.windows.size(), static_cast<size_t>(to));
      for (const auto& window : axis.windows) {
        const auto begin = axis.weights.begin() + static_cast<ptrdiff_t>(window.weights);
        EXPECT_GE(window.first, 0);
        EXPECT_LE(window.first + window.count, from);
        // Each weight is rounded on its own.
        EXPECT_NEAR(std::accumulate(begin, begin + window.count, 0), 1 << resize_precision_bits, window.count);
      }
    }
}

// The vector code of every width and ratio against the sums as they are written.
TEST_F(ImageResizeTest, RowsAreTheWeightedSums) {
  for (const int from : {1, 2, 5, 21, 22, 63, 64, 65, 256, 700})
    for (const int to : {1, 3, 4, 6, 64, 65, 101}) {
      if (from == to) continue;
      for (int filter = 0; filter < 6; ++filter) {
        const auto resample = static_cast<Resample>(filter);
        Image image = test_pattern(from, 1);
        for (size_t i = 0; i < image.rgb.size() / 2; ++i) image.rgb[i] = i % 2 == 0 ? 255 : 0;
        const AxisWeights axis = axis_weights(from, to, resample);
        std::vector<uint8_t> expected;
        for (const auto& window : axis.windows)
          for (int c = 0; c < 3; ++c) {
            int64_t sum = int64_t{1} << (resize_precision_bits - 1);
            for (int i = 0; i < window.count; ++i)
              sum += int64_t{axis.weights[window.weights + static_cast<size_t>(i)]} *
                     image.rgb[static_cast<size_t>((window.first + i) * 3 + c)];
            expected.push_back(static_cast<uint8_t>(std::clamp<int64_t>(sum >> resize_precision_bits, 0, 255)));
          }
        EXPECT_EQ(resize(image, to, 1, resample).rgb, expected) << from << " to " << to << ", " << filter;
      }
    }
}

TEST_F(ImageResizeTest, BadSizesAreRefused) {
  const Image image = test_pattern(3, 2);
  expect_error([&] { resize(image, 0, 5, Resample::bilinear); }, "3 x 2 to 0 x 5", "must be positive");
  expect_error([&] { resize(Image{3, 2, {1}}, 1, 1, Resample::bilinear); }, "need 18 bytes", "got 1");
  RowResizer resizer(3, 2, 1, 1, Resample::bilinear);
  resizer.push(image.rgb.data());
  expect_error([&] { resizer.finish(); }, "only 1 of 2 rows", "[image]");
  resizer.push(image.rgb.data());
  expect_error([&] { resizer.push(image.rgb.data()); }, "more rows", "2");
}

}  // namespace
}  // namespace duet::train
