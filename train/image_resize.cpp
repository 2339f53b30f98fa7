#include "duet/train/image_resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <span>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "duet/core/error.h"

namespace duet::train {
namespace {

constexpr int32_t half = 1 << (resize_precision_bits - 1);

double sinc(double x) {
  if (x == 0) return 1;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double box(double x) {
  return x > -0.5 && x <= 0.5 ? 1 : 0;
}

double bilinear(double x) {
  return std::max(0.0, 1.0 - std::abs(x));
}

double hamming(double x) {
  x = std::abs(x);
  if (x == 0) return 1;
  if (x >= 1) return 0;
  x *= std::numbers::pi;
  return std::sin(x) / x * (0.54f + 0.46f * std::cos(x));  // Pillow's constants are floats
}

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double lanczos(double x) {
  return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

struct Filter {
  double (*value)(double);
  double support;  // zero outside [-support, support]
};

Filter filter_of(Resample resample) {
  switch (resample) {
    case Resample::lanczos:
      return {lanczos, 3};
    case Resample::bilinear:
      return {bilinear, 1};
    case Resample::bicubic:
      return {bicubic, 2};
    case Resample::box:
      return {box, 0.5};
    case Resample::hamming:
      return {hamming, 1};
    case Resample::nearest:
      break;
  }
  fail("image", "resample ", static_cast<int>(resample), " has no filter");
}

// One input position each. Pillow adds up the steps, and the rounding errors of the sum decide at exact halves.
AxisWeights nearest_weights(int from, int to) {
  AxisWeights axis;
  axis.weights.push_back(1 << resize_precision_bits);
  const double scale = static_cast<double>(from) / to;
  double position = scale * 0.5;
  for (int i = 0; i < to; ++i, position += scale)
    axis.windows.push_back({std::min(static_cast<int>(position), from - 1), 1, 0});
  return axis;
}

uint8_t to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> resize_precision_bits, 0, 255));
}

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512VL__)
#define DUET_RESIZE_GROUPS
#endif
// Four output pixels at a time, one in each 128 bits of a vector: red, green, blue and nothing, where a lane sums the
// products of four neighbouring inputs, bytes, with four weights. Weights have three signed bytes, which are summed
// apart. A group's vectors are the places of those inputs among 64 bytes of the row, and for every four inputs the
// weights' bytes, lowest first.
constexpr int group_size = 4;
constexpr size_t vector_bytes = 64;

#ifdef DUET_RESIZE_GROUPS
constexpr bool has_groups = true;

void resize_group(const uint8_t* row, size_t row_bytes, int quads, const uint8_t* operands, uint8_t* out,
                  int out_bytes) {
  const __m512i places = _mm512_loadu_si512(operands);
  __m512i sums[3] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  for (int q = 0; q < quads; ++q) {
    // Nothing is read behind the row; what is read behind a window has weights of zero.
    const __mmask64 inside = row_bytes >= vector_bytes ? ~uint64_t{0} : (uint64_t{1} << row_bytes) - 1;
    const __m512i inputs = _mm512_permutexvar_epi8(places, _mm512_maskz_loadu_epi8(inside, row));
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, inputs, _mm512_loadu_si512(operands += vector_bytes));
    row += 3 * group_size;
    row_bytes -= 3 * group_size;
  }
  const __m512i high = _mm512_add_epi32(_mm512_slli_epi32(sums[1], 8), _mm512_slli_epi32(sums[2], 16));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(sums[0], _mm512_set1_epi32(half)), high);
  const __m512i values = _mm512_max_epi32(_mm512_srai_epi32(sum, resize_precision_bits), _mm512_setzero_si512());
  const __m128i close = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const auto wanted = static_cast<__mmask16>((1 << out_bytes) - 1);
  _mm_mask_storeu_epi8(out, wanted, _mm_shuffle_epi8(_mm512_cvtusepi32_epi8(values), close));
}
#else
constexpr bool has_groups = false;
void resize_group(const uint8_t*, size_t, int, const uint8_t*, uint8_t*, int) {}
#endif

// The three signed bytes of each of four weights, a vector's lane each; false when one has no such bytes.
bool split_weights(const int32_t (&weights)[group_size], uint8_t (&bytes)[3][group_size]) {
  for (size_t i = 0; i < group_size; ++i) {
    int32_t rest = weights[i];
    for (auto& part : bytes) {
      const auto low = static_cast<int8_t>(rest);
      part[i] = static_cast<uint8_t>(low);
      rest = (rest - low) >> 8;
    }
    if (rest != 0) return false;
  }
  return true;
}

#ifdef __AVX2__
constexpr bool has_pairs = true;

// The sums of a window over two pixels at a time: the lanes are red, green, blue and one unused of each. `lanes` holds
// each weight four times. Sums of integers are the same in any order.
void resize_pairs(const AxisWeights::Window& window, const int32_t* lanes, const uint8_t* row, uint8_t* out) {
  const __m128i spread = _mm_setr_epi8(0, 1, 2, 2, 3, 4, 5, 5, -1, -1, -1, -1, -1, -1, -1, -1);
  const uint8_t* pixel = row + static_cast<size_t>(window.first) * 3;
  __m256i sums = _mm256_setzero_si256();
  for (int i = 0; i < window.count; i += 2, pixel += 6, lanes += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixel));
    const __m256i values = _mm256_cvtepu8_epi32(_mm_shuffle_epi8(bytes, spread));
    const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes));
    sums = _mm256_add_epi32(sums, _mm256_mullo_epi32(values, weights));
  }
  const __m128i both = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  // Both steps of narrowing saturate, as to_byte does.
  const __m128i words = _mm_srai_epi32(_mm_add_epi32(both, _mm_set1_epi32(half)), resize_precision_bits);
  const __m128i narrow = _mm_packus_epi16(_mm_packs_epi32(words, words), words);
  const int32_t packed = _mm_cvtsi128_si32(narrow);
  std::memcpy(out, &packed, 3);
}
#else
constexpr bool has_pairs = false;
void resize_pairs(const AxisWeights::Window&, const int32_t*, const uint8_t*, uint8_t*) {}
#endif

void resize_pixels(const AxisWeights::Window& window, const int32_t* weights, const uint8_t* row, uint8_t* out) {
  const uint8_t* pixel = row + static_cast<size_t>(window.first) * 3;
  int32_t sums[] = {half, half, half};
  for (int i = 0; i < window.count; ++i, pixel += 3)
    for (int c = 0; c < 3; ++c) sums[c] += pixel[c] * weights[i];
  for (int c = 0; c < 3; ++c) out[c] = to_byte(sums[c]);
}

// Where the lanes of each window's weights begin among all; an odd count is filled up with a weight of zero.
std::vector<size_t> make_lanes(const AxisWeights& axis, std::vector<int32_t>& lanes) {
  std::vector<size_t> begins;
  for (const AxisWeights::Window& window : axis.windows) {
    begins.push_back(lanes.size());
    for (int i = 0; i < window.count; ++i)
      lanes.insert(lanes.end(), 4, axis.weights[window.weights + static_cast<size_t>(i)]);
    if (window.count % 2 == 1) lanes.insert(lanes.end(), 4, 0);
  }
  return begins;
}

// Puts the vectors of a group of windows behind the others; false when their inputs are not within 64 bytes, or a
// weight is too large. Windows have at least one input and begin one behind the other.
bool append_group(std::span<const AxisWeights::Window> windows, const std::vector<int32_t>& weights, int quads,
                  std::vector<uint8_t>& operands) {
  constexpr size_t lane_bytes = 16;
  size_t at = operands.size();
  operands.resize(at + vector_bytes * (1 + 3 * static_cast<size_t>(quads)));
  for (size_t lane = 0; lane < windows.size(); ++lane) {
    const auto begin = static_cast<size_t>(windows[lane].first - windows[0].first) * 3;
    if (begin + 3 * group_size > vector_bytes) return false;
    for (size_t i = 0; i < 3 * group_size; ++i)
      operands[at + lane * lane_bytes + i] = static_cast<uint8_t>(begin + i % group_size * 3 + i / group_size);
  }
  for (int q = 0; q < quads; ++q)
    for (size_t lane = 0; lane < windows.size(); ++lane) {
      int32_t four[group_size] = {};
      for (int i = 0; i < group_size && q * group_size + i < windows[lane].count; ++i)
        four[i] = weights[windows[lane].weights + static_cast<size_t>(q * group_size + i)];
      uint8_t bytes[3][group_size];
      if (!split_weights(four, bytes)) return false;
      for (size_t part = 0; part < 3; ++part)
        for (size_t c = 0; c < 3; ++c)
          std::memcpy(operands.data() + at + vector_bytes * (1 + 3 * static_cast<size_t>(q) + part) +
                          lane * lane_bytes + c * group_size,
                      bytes[part], group_size);
    }
  return true;
}

// The most output positions whose windows are open at the same input position.
size_t most_open(const AxisWeights& axis) {
  size_t most = 1, oldest = 0;
  for (size_t i = 0; i < axis.windows.size(); ++i) {
    while (axis.windows[oldest].first + axis.windows[oldest].count <= axis.windows[i].first) ++oldest;
    most = std::max(most, i - oldest + 1);
  }
  return most;
}

}  // namespace

AxisWeights axis_weights(int from, int to, Resample resample) {
  if (resample == Resample::nearest) return nearest_weights(from, to);
  const Filter filter = filter_of(resample);
  const double scale = static_cast<double>(from) / to, filter_scale = std::max(scale, 1.0);
  const double support = filter.support * filter_scale;
  const double inverse = 1.0 / filter_scale;  // Pillow multiplies by the rounded inverse
  AxisWeights axis;
  std::vector<double> values;
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int end = std::min(from, static_cast<int>(centre + support + 0.5));
    values.clear();
    double sum = 0;
    for (int x = first; x < end; ++x) {
      values.push_back(filter.value((x - centre + 0.5) * inverse));
      sum += values.back();
    }
    axis.windows.push_back({first, end - first, axis.weights.size()});
    for (const double value : values) {
      const double weight = (sum != 0 ? value / sum : value) * (1 << resize_precision_bits);
      axis.weights.push_back(static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5));
    }
  }
  return axis;
}

RowResizer::RowResizer(int width, int height, int new_width, int new_height, Resample resample)
    : width_(width), height_(height) {
  check(width > 0 && height > 0 && new_width > 0 && new_height > 0, "image", "cannot resize ", width, " x ", height,
        " to ", new_width, " x ", new_height, ": every side must be positive");
  const size_t row = static_cast<size_t>(new_width) * 3;
  image_ = {new_width, new_height, {}};
  image_.rgb.reserve(row * static_cast<size_t>(new_height));
  if (new_width != width) {
    horizontal_ = axis_weights(width, new_width, resample);
    if (has_groups) make_groups();
    if (has_pairs && groups_.empty()) lane_begins_ = make_lanes(horizontal_, lanes_);
    line_.resize(row);
  }
  if (new_height != height) {
    vertical_ = axis_weights(height, new_height, resample);
    sums_.assign(most_open(vertical_), std::vector<int32_t>(row));
  }
}

void RowResizer::make_groups() {
  const std::span<const AxisWeights::Window> all = horizontal_.windows;
  for (size_t i = 0; i < all.size(); i += group_size) {
    const auto windows = all.subspan(i, std::min<size_t>(group_size, all.size() - i));
    int most = 0;
    for (const AxisWeights::Window& window : windows) most = std::max(most, window.count);
    const int quads = (most + group_size - 1) / group_size;
    groups_.push_back({windows[0].first, quads, operands_.size()});
    if (append_group(windows, horizontal_.weights, quads, operands_)) continue;
    groups_.clear();
    operands_ = {};
    return;
  }
}

void RowResizer::push(const uint8_t* row) {
  check(y_ < height_, "image", "more rows than the image is high, ", height_);
  if (!horizontal_.windows.empty()) {
    resize_row(row);
    row = line_.data();
  }
  // Output grows as rows come: a header that promises too much costs no memory that was never filled.
  if (vertical_.windows.empty())
    image_.rgb.insert(image_.rgb.end(), row, row + static_cast<size_t>(image_.width) * 3);
  else
    add_row(row);
  ++y_;
}

void RowResizer::resize_row(const uint8_t* row) {
  uint8_t* out = line_.data();
  if (!groups_.empty()) {
    const auto row_bytes = static_cast<size_t>(width_) * 3;
    const uint8_t* const end = out + line_.size();
    for (const Group& group : groups_) {
      const auto begin = static_cast<size_t>(group.first) * 3;
      resize_group(row + begin, row_bytes - begin, group.quads, operands_.data() + group.operands, out,
                   static_cast<int>(std::min<ptrdiff_t>(end - out, 3 * group_size)));
      out += 3 * group_size;
    }
    return;
  }
  for (size_t i = 0; i < horizontal_.windows.size(); ++i, out += 3) {
    const AxisWeights::Window& window = horizontal_.windows[i];
    // A pair is read with two bytes behind it.
    const bool inside =
        has_pairs && (window.first + window.count + window.count % 2) * int64_t{3} + 2 <= int64_t{width_} * 3;
    if (inside)
      resize_pairs(window, lanes_.data() + lane_begins_[i], row, out);
    else
      resize_pixels(window, horizontal_.weights.data() + window.weights, row, out);
  }
}

void RowResizer::add_row(const uint8_t* row) {
  for (int i = first_open_; i < image_.height; ++i) {
    const AxisWeights::Window& window = vertical_.windows[static_cast<size_t>(i)];
    if (window.first > y_) break;
    std::vector<int32_t>& sums = sums_[static_cast<size_t>(i) % sums_.size()];
    if (window.first == y_) std::fill(sums.begin(), sums.end(), half);
    const int32_t weight = vertical_.weights[window.weights + static_cast<size_t>(y_ - window.first)];
    const size_t n = sums.size();
    int32_t* sum = sums.data();
    for (size_t x = 0; x < n; ++x) sum[x] += row[x] * weight;
    if (y_ + 1 < window.first + window.count) continue;
    first_open_ = i + 1;
    const size_t at = image_.rgb.size();
    image_.rgb.resize(at + n);
    std::transform(sums.begin(), sums.end(), image_.rgb.begin() + static_cast<ptrdiff_t>(at), to_byte);
  }
}

Image RowResizer::finish() {
  check(y_ == height_, "image", "only ", y_, " of ", height_, " rows were given");
  return std::move(image_);
}

Image resize(const Image& image, int width, int height, Resample resample) {
  const size_t row = static_cast<size_t>(image.width) * 3;
  check(image.rgb.size() == row * static_cast<size_t>(image.height), "image", "resize: ", image.width, " x ",
        image.height, " pixels need ", row * static_cast<size_t>(image.height), " bytes, got ", image.rgb.size());
  RowResizer resizer(image.width, image.height, width, height, resample);
  for (int y = 0; y < image.height; ++y) resizer.push(image.rgb.data() + static_cast<size_t>(y) * row);
  return resizer.finish();
}

}  // namespace duet::train
