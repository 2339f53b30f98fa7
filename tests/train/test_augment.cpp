#include "duet/train/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "duet/core/error.h"

namespace duet::train {
namespace {

// White with a dark square off the middle to the left.
Image drawing() {
  Image image{64, 64, std::vector<uint8_t>(64 * 64 * 3, 255)};
  for (size_t y = 24; y < 40; ++y)
    for (size_t x = 12; x < 28; ++x) std::fill_n(image.rgb.begin() + static_cast<ptrdiff_t>(y * 64 + x) * 3, 3, 20);
  return image;
}

// Column and row of the dark pixels' centre, and their number.
struct Centre {
  double x = 0, y = 0, count = 0;
};
Centre dark(const Image& image) {
  Centre c;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      if (image.rgb[static_cast<size_t>(y * image.width + x) * 3] < 128) {
        c.x += x + 0.5;
        c.y += y + 0.5;
        ++c.count;
      }
  return {c.x / c.count, c.y / c.count, c.count};
}

TEST(AugmentTest, NamesAreParsed) {
  EXPECT_EQ(parse_augment("none"), Augment::none);
  EXPECT_EQ(parse_augment("basic"), Augment::basic);
  try {
    parse_augment("baisc");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "[augment] unknown augmentation \"baisc\"; use none or basic");
  }
}

TEST(AugmentTest, NoneChangesNothing) {
  const Image image = drawing();
  EXPECT_EQ(augment(image, Augment::none, {1, 2}).rgb, image.rgb);
}

TEST(AugmentTest, IsAFunctionOfTheKey) {
  const Image image = drawing();
  std::set<std::string> different;
  for (uint64_t i = 0; i < 50; ++i) {
    const Image a = augment(image, Augment::basic, {7, i});
    EXPECT_EQ(a.rgb, augment(image, Augment::basic, {7, i}).rgb);
    EXPECT_EQ(a.width, 64);
    EXPECT_EQ(a.height, 64);
    EXPECT_EQ(a.rgb.size(), image.rgb.size());
    different.emplace(a.rgb.begin(), a.rgb.end());
  }
  EXPECT_GT(different.size(), 45u);
}

// Bounds of the documented crop: windows of 0.8 to 1.0 of the side, anywhere on the image padded by 4 pixels.
TEST(AugmentTest, MovesAndGrowsWithinItsBounds) {
  const Image image = drawing();  // square of 16 x 16 around (20, 32)
  int mirrored = 0;
  double least = 1e9, most = 0, up = 0, down = 0;
  constexpr int n = 400;
  for (uint64_t i = 0; i < n; ++i) {
    const Image out = augment(image, Augment::basic, RandomKey{3, 1}.child(i));
    const Centre c = dark(out);
    const bool flipped = c.x > 34;
    mirrored += flipped;
    const double x = flipped ? 64 - c.x : c.x;
    // Enlarging about a corner moves the centre furthest.
    EXPECT_GE(x, (20 - (64 + 4 - 51)) * 1.25 - 1);
    EXPECT_LE(x, (20 + 4) * 1.25 + 1);
    least = std::min(least, c.count);
    most = std::max(most, c.count);
    up = std::max(up, 32 - c.y);
    down = std::max(down, c.y - 32);
    for (const size_t corner : {size_t{0}, size_t{63}, size_t{63 * 64}, size_t{64 * 64 - 1}})
      EXPECT_EQ(out.rgb[corner * 3], 255);  // padded with white
  }
  EXPECT_NEAR(mirrored, n / 2, 4 * 10);  // four standard deviations
  EXPECT_GE(least, 15 * 15);
  EXPECT_LE(most, 21 * 21);
  EXPECT_GT(most, 18.5 * 18.5);
  EXPECT_GT(up, 5);
  EXPECT_GT(down, 5);
}

TEST(AugmentTest, TinyAndOblongImagesKeepTheirSize) {
  for (const auto& [width, height] : {std::pair{1, 1}, {2, 1}, {3, 50}, {100, 7}}) {
    const size_t bytes = static_cast<size_t>(width) * static_cast<size_t>(height) * 3;
    const Image image{width, height, std::vector<uint8_t>(bytes, 255)};
    for (uint64_t i = 0; i < 20; ++i) {
      const Image out = augment(image, Augment::basic, {1, i});
      EXPECT_EQ(out.width, width);
      EXPECT_EQ(static_cast<size_t>(std::count(out.rgb.begin(), out.rgb.end(), 255)), bytes);
      EXPECT_EQ(out.rgb.size(), bytes);
    }
  }
}

TEST(IsBreak, BreaksAreThePunctuationBetweenParts) {
  for (const char* token : {".", ",", ":", ";", "!", "?", "(", ")"}) EXPECT_TRUE(is_break(token)) << token;
  for (const char* token : {"", "-", "'", "a", "..", "##.", "[SEP]"}) EXPECT_FALSE(is_break(token)) << token;
}

class AugmentTokens : public ::testing::Test {
 protected:
  static constexpr int32_t comma = 50, first = 101, last = 102;
  static constexpr uint64_t n = 2000;
  static std::vector<int32_t> apply(const std::vector<int32_t>& ids, uint64_t i, Augment kind = Augment::basic) {
    std::vector<bool> breaks(103);
    breaks[comma] = true;
    return augment_tokens(ids, kind, {7, i}, breaks);
  }
};

TEST_F(AugmentTokens, KeepsOnePartOrAllAndDropsTokens) {
  // Three parts of 5, 1 and 10 tokens; an empty one between the last two is none.
  const std::vector<int32_t> ids{first, 1, 2,  3,  4,  5,  comma, 6,  comma, comma, 7,
                                 8,     9, 10, 11, 12, 13, 14,    15, 16,    last};
  EXPECT_EQ(apply(ids, 1, Augment::none), ids);
  std::map<int, int> count;  // by what is left: part 0, 1, 2, or tokens of several (-1)
  int64_t tokens_left = 0;
  const auto part = [](int32_t id) { return id <= 5 ? 0 : id == 6 ? 1 : 2; };
  for (uint64_t i = 0; i < n; ++i) {
    const std::vector<int32_t> out = apply(ids, i);
    EXPECT_EQ(out, apply(ids, i));
    ASSERT_GE(out.size(), 3u);
    EXPECT_EQ(out.front(), first);
    EXPECT_EQ(out.back(), last);
    std::vector<int32_t> words(out.begin() + 1, out.end() - 1);
    const bool whole = std::erase(words, comma) > 0;
    EXPECT_TRUE(std::is_sorted(words.begin(), words.end()));  // the order stays
    EXPECT_EQ(std::adjacent_find(words.begin(), words.end()), words.end());
    const bool several = whole || (!words.empty() && part(words.front()) != part(words.back()));
    ++count[several ? -1 : part(words.front())];
    if (several) tokens_left += static_cast<int64_t>(out.size());
  }
  EXPECT_NEAR(count[-1], n * 0.5, n * 0.04);
  for (const int p : {0, 1, 2}) EXPECT_NEAR(count[p], n / 6.0, n * 0.03) << p;
  EXPECT_NEAR(static_cast<double>(tokens_left) / count[-1], 2 + 0.9 * 19, 0.3);
}

TEST_F(AugmentTokens, TextsOfBreaksAloneOnlyLoseTokens) {
  const std::vector<int32_t> ids{first, comma, comma, comma, last};
  for (uint64_t i = 0; i < 50; ++i) {
    const std::vector<int32_t> out = apply(ids, i);
    ASSERT_GE(out.size(), 3u);
    EXPECT_EQ(out[1], comma);
  }
}

TEST_F(AugmentTokens, LeavesTheShortestTextsAlone) {
  for (const std::vector<int32_t>& ids : {std::vector<int32_t>{first, last}, {first, 5, last}})
    for (uint64_t i = 0; i < 50; ++i) EXPECT_EQ(apply(ids, i), ids);
}

}  // namespace
}  // namespace duet::train
