// Included by the files of vector_math, behind vector_math_kernels.h, with the same conditions.
#include <cstdint>

#include "duet/ops/attention_rows.h"
#include "duet/ops/tile_product.h"

namespace duet::ops::detail {
namespace {

// Rows side by side: as many as there are registers for.
constexpr int most_together = lanes >= 16 ? 4 : lanes >= 8 ? 2 : 1;

// Some rows' part of a Dropped.
struct Drops {
  const uint32_t* numbers;
  int64_t stride;
  int threshold;
  Floats keep;

  explicit Drops(const Dropped<float>& all, int64_t row)
      : numbers(all.numbers + (all.numbers ? row * all.stride : 0)),
        stride(all.stride),
        threshold(static_cast<int>(all.threshold ^ 0x80000000u)),
        keep(splat(all.keep)) {}
};

// Vectors compare integers with signs.
[[gnu::always_inline]] inline Ints reaches(Floats numbers, int threshold) {
  return (bits(numbers) ^ sign_bit) >= threshold;
}

// The first `left` elements at x: all lanes where Whole.
template <bool Whole>
[[gnu::always_inline]] inline Floats load_left(const float* x, int64_t left) {
  return Whole ? load(x) : load_first(x, left);
}
template <bool Whole>
[[gnu::always_inline]] inline Floats load_left(const uint32_t* x, int64_t left) {
  return load_left<Whole>(reinterpret_cast<const float*>(x), left);
}
template <bool Whole>
[[gnu::always_inline]] inline void store_left(float* x, int64_t left, Floats v) {
  if constexpr (Whole)
    store(x, v);
  else
    store_first(x, left, v);
}

// One vector of each of R rows.
template <int R, bool Dropping, bool Whole>
[[gnu::always_inline]] inline void softmax_at(float* x, int64_t j, int64_t left, Floats scale, const Drops& drops,
                                              const Floats (&tops)[R], Floats (&sums)[R]) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    float* const at = x + r * tile_stride + j;
    Floats e = exp_of(fma(load_left<Whole>(at, left), scale, -tops[r]));
    if constexpr (!Whole) e = counted_lanes(left) ? e : Floats{};
    sums[r] += e;
    if constexpr (Dropping)
      e = reaches(load_left<Whole>(drops.numbers + r * drops.stride + j, left), drops.threshold) ? e * drops.keep
                                                                                                 : Floats{};
    store_left<Whole>(at, left, e);
  }
}

template <int R, bool Dropping>
void softmax_together(float* x, int64_t n, float scale, const Drops& drops, float* tops, float* sums) {
  const int64_t whole = n / lanes * lanes, left = n - whole;
  const Floats lowest = splat(-3.402823466e38f);
  Floats top[R], sum[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    top[r] = lowest;
    sum[r] = Floats{};
  }
  for (int64_t j = 0; j < whole; j += lanes)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) top[r] = larger(load(x + r * tile_stride + j), top[r]);
  if (left > 0)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
      top[r] = larger(counted_lanes(left) ? load_first(x + r * tile_stride + whole, left) : lowest, top[r]);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const float highest = largest_of(top[r]) * scale;
    if (highest > tops[r]) tops[r] = highest;
    top[r] = splat(tops[r]);
  }
  const Floats factor = splat(scale);
  for (int64_t j = 0; j < whole; j += lanes) softmax_at<R, Dropping, true>(x, j, lanes, factor, drops, top, sum);
  if (left > 0) softmax_at<R, Dropping, false>(x, whole, left, factor, drops, top, sum);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sums[r] = sum_of(sum[r]);
}

template <bool Dropping>
void softmax_rows_of(float* x, int64_t rows, int64_t n, float scale, const Dropped<float>& dropped, float* tops,
                     float* sums) {
  for (int64_t i = 0; i < rows;) {
    const bool many = i + most_together <= rows;
    (many ? softmax_together<most_together, Dropping>
          : softmax_together<1, Dropping>)(x + i * tile_stride, n, scale, Drops(dropped, i), tops + i, sums + i);
    i += many ? most_together : 1;
  }
}

inline void softmax_rows(float* x, int64_t rows, int64_t n, float scale, const Dropped<float>& dropped, float* tops,
                         float* sums) {
  (dropped.numbers ? softmax_rows_of<true> : softmax_rows_of<false>)(x, rows, n, scale, dropped, tops, sums);
}

template <int R, bool Dropping, bool Whole>
[[gnu::always_inline]] inline void softmax_backward_at(float* p, float* d, int64_t j, int64_t left, Floats scale,
                                                       const Drops& drops, const Floats (&log_sums)[R],
                                                       const Floats (&dots)[R]) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const int64_t at = r * tile_stride + j;
    const Floats e = exp_of(fma(load_left<Whole>(p + at, left), scale, -log_sums[r]));
    Floats used = e, g = d ? load_left<Whole>(d + at, left) : Floats{};
    if constexpr (Dropping) {
      const Ints kept = reaches(load_left<Whole>(drops.numbers + r * drops.stride + j, left), drops.threshold);
      used = kept ? e * drops.keep : Floats{};
      g = kept ? g * drops.keep : Floats{};
    }
    store_left<Whole>(p + at, left, used);
    if (d) store_left<Whole>(d + at, left, e * (g - dots[r]) * scale);
  }
}

template <int R, bool Dropping>
void softmax_backward_together(float* p, float* d, int64_t n, float scale, const Drops& drops, const float* log_sums,
                               const float* dots) {
  const int64_t whole = n / lanes * lanes, left = n - whole;
  Floats offset[R], dot[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    offset[r] = splat(log_sums[r]);
    dot[r] = d ? splat(dots[r]) : Floats{};
  }
  const Floats factor = splat(scale);
  for (int64_t j = 0; j < whole; j += lanes)
    softmax_backward_at<R, Dropping, true>(p, d, j, lanes, factor, drops, offset, dot);
  if (left > 0) softmax_backward_at<R, Dropping, false>(p, d, whole, left, factor, drops, offset, dot);
}

template <bool Dropping>
void softmax_backward_rows_of(float* p, float* d, int64_t rows, int64_t n, float scale, const Dropped<float>& dropped,
                              const float* log_sums, const float* dots) {
  for (int64_t i = 0; i < rows;) {
    float* const di = d ? d + i * tile_stride : nullptr;
    const float* const dot = d ? dots + i : nullptr;
    const bool many = i + most_together <= rows;
    (many ? softmax_backward_together<most_together, Dropping>
          : softmax_backward_together<1, Dropping>)(p + i * tile_stride, di, n, scale, Drops(dropped, i), log_sums + i,
                                                    dot);
    i += many ? most_together : 1;
  }
}

inline void softmax_backward_rows(float* p, float* d, int64_t rows, int64_t n, float scale,
                                  const Dropped<float>& dropped, const float* log_sums, const float* dots) {
  (dropped.numbers ? softmax_backward_rows_of<true> : softmax_backward_rows_of<false>)(p, d, rows, n, scale, dropped,
                                                                                       log_sums, dots);
}

}  // namespace
}  // namespace duet::ops::detail
