#include "duet/train/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "duet/core/error.h"

namespace duet::train {
namespace {

constexpr double smallest_crop = 0.8;
constexpr int padding_divisor = 16;
constexpr double part_probability = 0.5, drop_probability = 0.1;  // of texts, of their tokens

// The window whose top left corner lies at (left, top), which may be negative; white outside the image.
Image cut(const Image& image, int left, int top, int width, int height) {
  Image out{width, height, std::vector<uint8_t>(static_cast<size_t>(width) * static_cast<size_t>(height) * 3, 255)};
  const int begin = std::max(left, 0), end = std::min(left + width, image.width);
  for (int y = std::max(top, 0); y < std::min(top + height, image.height) && begin < end; ++y)
    std::memcpy(out.rgb.data() + (int64_t{y - top} * width + begin - left) * 3,
                image.rgb.data() + (int64_t{y} * image.width + begin) * 3, static_cast<size_t>(end - begin) * 3);
  return out;
}

void mirror(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    uint8_t* row = image.rgb.data() + int64_t{y} * image.width * 3;
    for (int64_t left = 0, right = image.width - 1; left < right; ++left, --right)
      std::swap_ranges(row + left * 3, row + left * 3 + 3, row + right * 3);
  }
}

}  // namespace

Augment parse_augment(const std::string& name) {
  if (name == "none") return Augment::none;
  if (name == "basic") return Augment::basic;
  fail("augment", "unknown augmentation \"", name, "\"; use none or basic");
}

Image augment(const Image& image, Augment kind, RandomKey key) {
  if (kind == Augment::none) return image;
  Random random(key);
  const double share = smallest_crop + (1 - smallest_crop) * random.uniform();
  const auto window = [&](int side) { return std::max(1, static_cast<int>(std::lround(side * share))); };
  // Where a window of `size` may begin on a side padded at both ends.
  const auto begin = [&](int side, int size) {
    const int padding = side / padding_divisor;
    return static_cast<int>(random.below(static_cast<uint64_t>(side + 2 * padding - size + 1))) - padding;
  };
  const int width = window(image.width), height = window(image.height);
  const int left = begin(image.width, width), top = begin(image.height, height);
  Image out = resize(cut(image, left, top, width, height), image.width, image.height, Resample::bilinear);
  if (random.below(2) == 1) mirror(out);
  return out;
}

bool is_break(std::string_view token) {
  return token.size() == 1 && std::string_view(".,:;!?()").find(token[0]) != token.npos;
}

std::vector<int32_t> augment_tokens(std::span<const int32_t> ids, Augment kind, RandomKey key,
                                    const std::vector<bool>& breaks) {
  if (kind == Augment::none || ids.size() <= 3) return {ids.begin(), ids.end()};
  Random random(key);
  std::span<const int32_t> span = ids.subspan(1, ids.size() - 2);
  if (random.uniform() < part_probability) {
    // The parts between breaks, as begin and length.
    std::vector<std::pair<size_t, size_t>> parts;
    for (size_t begin = 0, i = 0; i <= span.size(); ++i) {
      if (i < span.size() && !breaks[static_cast<size_t>(span[i])]) continue;
      if (i > begin) parts.emplace_back(begin, i - begin);
      begin = i + 1;
    }
    if (!parts.empty()) {
      const auto [begin, length] = parts[random.below(parts.size())];
      span = span.subspan(begin, length);
    }
  }
  std::vector<int32_t> result{ids.front()};
  for (const int32_t id : span)
    if (random.uniform() >= drop_probability) result.push_back(id);
  if (result.size() == 1) result.push_back(span[random.below(span.size())]);
  result.push_back(ids.back());
  return result;
}

}  // namespace duet::train
