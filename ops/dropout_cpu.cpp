#include "duet/ops/dropout.h"

#include <algorithm>

#include "duet/core/parallel.h"
#include "duet/ops/philox_blocks.h"

namespace duet::ops {

template <class T>
void dropout_span(const T* x, T* y, int64_t n, float p, RandomKey random, int64_t first) {
  // Keep when the 32-bit number reaches p * 2^32: the comparison is exact in integers.
  const auto threshold = static_cast<uint32_t>(static_cast<double>(p) * 0x1p32);
  using W = Wide<T>;
  const W scale = W(1) / (W(1) - static_cast<W>(p));
  static const PhiloxBlocks make_numbers = philox_blocks(cpu_instructions());
  constexpr int64_t blocks = philox_blocks_together;
  uint32_t numbers[4 * blocks];
  for (int64_t i = 0; i < n;) {
    const auto position = static_cast<uint64_t>(first + i);
    const auto skipped = static_cast<int64_t>(position % 4);
    const uint32_t* number = numbers + skipped;
    const int64_t count = std::min(n - i, 4 * blocks - skipped);
    make_numbers(random, position / 4, (skipped + count + 3) / 4, numbers);
    for (int64_t j = 0; j < count; ++j)
      y[i + j] = static_cast<T>(number[j] >= threshold ? static_cast<W>(x[i + j]) * scale : W(0));
    i += count;
  }
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

}  // namespace duet::ops
