#include "duet/ops/dropout.h"

#include <algorithm>

#include "duet/core/parallel.h"
#include "duet/ops/philox_blocks.h"

namespace duet::ops {
namespace {

// A 32-bit number keeps its element when it reaches p * 2^32: the comparison is exact in integers.
uint32_t threshold_of(float p) {
  return static_cast<uint32_t>(static_cast<double>(p) * 0x1p32);
}
template <class W>
W scale_of_kept(float p) {
  return W(1) / (W(1) - static_cast<W>(p));
}

PhiloxBlocks number_maker() {
  static const PhiloxBlocks chosen = philox_blocks(cpu_instructions());
  return chosen;
}

constexpr int64_t numbers_together = 4 * philox_blocks_together;
constexpr int64_t padded(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}
// Room for a row of n numbers that makes its own blocks: up to three of the first one come before it.
constexpr int64_t row_room(int64_t n) {
  return 4 + padded(n + 3, numbers_together);
}

}  // namespace

template <class T>
void dropout_span(const T* x, T* y, int64_t n, float p, RandomKey random, int64_t first) {
  using W = Wide<T>;
  const uint32_t threshold = threshold_of(p);
  const W scale = scale_of_kept<W>(p);
  const PhiloxBlocks make_numbers = number_maker();
  uint32_t numbers[numbers_together];
  for (int64_t i = 0; i < n;) {
    const auto position = static_cast<uint64_t>(first + i);
    const auto skipped = static_cast<int64_t>(position % 4);
    const uint32_t* number = numbers + skipped;
    const int64_t count = std::min(n - i, numbers_together - skipped);
    make_numbers(random, position / 4, (skipped + count + 3) / 4, numbers);
    for (int64_t j = 0; j < count; ++j)
      y[i + j] = static_cast<T>(number[j] >= threshold ? static_cast<W>(x[i + j]) * scale : W(0));
    i += count;
  }
}

template <class W>
Dropped<W> dropped_rows(int64_t rows, int64_t n, float p, RandomKey random, int64_t first, int64_t step,
                        uint32_t* memory) {
  const PhiloxBlocks make_numbers = number_maker();
  Dropped<W> result{memory, step, threshold_of(p), scale_of_kept<W>(p)};
  const auto position = static_cast<uint64_t>(first);
  const auto skipped = static_cast<int64_t>(position % 4);
  // Together, unless the numbers between the rows, which nobody uses, are more than what rows of their own would waste
  // in AVX-512, which makes at least 16 blocks.
  if (step <= padded(n + 3, 64)) {
    make_numbers(random, position / 4, (skipped + (rows - 1) * step + n + 3) / 4, memory);
    result.numbers += skipped;
    return result;
  }
  result.stride = row_room(n);
  result.numbers += 4;
  for (int64_t i = 0; i < rows; ++i) {
    const auto at = static_cast<uint64_t>(first + i * step);
    const auto before = static_cast<int64_t>(at % 4);
    make_numbers(random, at / 4, (before + n + 3) / 4, memory + i * result.stride + 4 - before);
  }
  return result;
}

int64_t dropped_rows_memory(int64_t rows, int64_t n) {
  return rows * row_room(n) + numbers_together;
}

template <class T>
void dropout_forward(CpuContext, const T* x, T* y, int64_t n, float p, RandomKey random) {
  parallel_for(n, 1 << 14, [&](int64_t begin, int64_t end) {
    dropout_span<T>(x + begin, y + begin, end - begin, p, random, begin);
  });
}

template <class T>
void dropout_rows(CpuContext, Rows<const T> x, const int64_t* rows, Rows<T> y, float p, RandomKey random) {
  const int64_t width = x.width;
  parallel_for(x.count, 1 + (1 << 14) / std::max<int64_t>(width, 1), [&](int64_t begin, int64_t end) {
    // Neighbours in the larger matrix at once: the numbers come in blocks.
    for (int64_t r = begin, next = begin; r < end; r = next) {
      for (next = r + 1; next < end && rows[next] == rows[next - 1] + 1;) ++next;
      dropout_span<T>(x.row(r), y.row(r), (next - r) * width, p, random, rows[r] * width);
    }
  });
}

#define DUET_INSTANTIATE(T)                                                                            \
  template void dropout_forward<T>(CpuContext, const T*, T*, int64_t, float, RandomKey);               \
  template void dropout_rows<T>(CpuContext, Rows<const T>, const int64_t*, Rows<T>, float, RandomKey); \
  template void dropout_span<T>(const T*, T*, int64_t, float, RandomKey, int64_t);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)
template Dropped<float> dropped_rows<float>(int64_t, int64_t, float, RandomKey, int64_t, int64_t, uint32_t*);
template Dropped<double> dropped_rows<double>(int64_t, int64_t, float, RandomKey, int64_t, int64_t, uint32_t*);

}  // namespace duet::ops
