#include "duet/models/position_embedding.h"

#include <cmath>

#include "duet/core/dispatch.h"

namespace duet::models {
namespace {

// Keys' cubic convolution kernel with parameter a.
double cubic(double x, double a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

struct Tap {
  int64_t from;
  double weight;
};

// The inputs of each of `to` outputs along an axis of `from`.
std::vector<std::vector<Tap>> axis_taps(int64_t from, int64_t to, Interpolation interpolation) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  std::vector<std::vector<Tap>> taps(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    auto& of_output = taps[static_cast<size_t>(i)];
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    if (interpolation == Interpolation::hugging_face) {
      // Four taps around the centre; those past the edge repeat it.
      const auto floor = static_cast<int64_t>(std::floor(centre - 0.5));
      for (int64_t j = floor - 1; j <= floor + 2; ++j)
        of_output.push_back({std::clamp<int64_t>(j, 0, from - 1), cubic(centre - 0.5 - static_cast<double>(j), -0.75)});
      continue;
    }
    // The kernel widens with the reduction; taps past the edge are left out and the rest made to sum to one.
    const double stretch = std::max(scale, 1.0), support = 2 * stretch;
    const auto low = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const auto high = std::min<int64_t>(from, static_cast<int64_t>(centre + support + 0.5));
    double sum = 0;
    for (int64_t j = low; j < high; ++j) {
      of_output.push_back({j, cubic((static_cast<double>(j) - centre + 0.5) / stretch, -0.5)});
      sum += of_output.back().weight;
    }
    for (Tap& tap : of_output) tap.weight /= sum;
  }
  return taps;
}

}  // namespace

int64_t grid_side(int64_t positions) {
  if (positions < 2) return 0;
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(positions - 1))));
  return side * side == positions - 1 ? side : 0;
}

Tensor interpolate_positions(const Tensor& table, int64_t rows, int64_t columns, Interpolation interpolation) {
  check(table.rank() == 3 && table.dim(0) == 1 && table.dim(1) >= 2, "interpolate_positions",
        "the table must be (1, N + 1, D), got ", table);
  check(rows > 0 && columns > 0, "interpolate_positions", "the new grid must not be empty, got ", rows, " x ", columns);
  const int64_t width = table.dim(2);
  const int64_t side = grid_side(table.dim(1));
  check(side > 0, "interpolate_positions", table.dim(1) - 1,
        " positions (without the class token's) are no square grid");
  if (rows == side && columns == side) return table.clone();
  const auto vertical = axis_taps(side, rows, interpolation), horizontal = axis_taps(side, columns, interpolation);
  const Tensor result = Tensor::empty({1, rows * columns + 1, width}, table.dtype());
  dispatch_cpu("position_embedding", table, [&]<class T>(Type<T>) {
    const T* in = table.data<T>();
    T* out = result.data<T>();
    std::copy_n(in, width, out);
    std::vector<double> sum(static_cast<size_t>(width));
    for (int64_t y = 0; y < rows; ++y)
      for (int64_t x = 0; x < columns; ++x) {
        std::fill(sum.begin(), sum.end(), 0);
        for (const Tap& v : vertical[static_cast<size_t>(y)])
          for (const Tap& h : horizontal[static_cast<size_t>(x)]) {
            const T* row = in + (1 + v.from * side + h.from) * width;
            for (int64_t d = 0; d < width; ++d)
              sum[static_cast<size_t>(d)] += v.weight * h.weight * static_cast<double>(row[d]);
          }
        T* row = out + (1 + y * columns + x) * width;
        for (int64_t d = 0; d < width; ++d) row[d] = static_cast<T>(sum[static_cast<size_t>(d)]);
      }
  });
  return result;
}

}  // namespace duet::models
