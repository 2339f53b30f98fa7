#include <algorithm>

#include "duet/ops/dropout.h"

#include "duet/core/parallel.h"

namespace duet::ops {
namespace {

// Blocks computed side by side, one per vector lane. Fewer are unrolled instead of vectorised by g++ 12.
constexpr size_t lanes = 32;

// What philox(key, first_block), philox(key, first_block + 1), ... give, one after the other.
void philox_blocks(RandomKey key, uint64_t first_block, uint32_t* numbers) {
  uint32_t c[4][lanes];
#pragma omp simd
  for (size_t l = 0; l < lanes; ++l) {
    const uint64_t offset = first_block + l;
    c[0][l] = static_cast<uint32_t>(offset);
    c[1][l] = static_cast<uint32_t>(offset >> 32);
    c[2][l] = static_cast<uint32_t>(key.stream);
    c[3][l] = static_cast<uint32_t>(key.stream >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (size_t l = 0; l < lanes; ++l) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c[0][l], p1 = uint64_t{0xCD9E8D57} * c[2][l];
      c[0][l] = static_cast<uint32_t>(p1 >> 32) ^ c[1][l] ^ k0;
      c[1][l] = static_cast<uint32_t>(p1);
      c[2][l] = static_cast<uint32_t>(p0 >> 32) ^ c[3][l] ^ k1;
      c[3][l] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  for (size_t l = 0; l < lanes; ++l)
    for (size_t j = 0; j < 4; ++j) numbers[4 * l + j] = c[j][l];
}

}  // namespace

template <class T>
void dropout_span(const T* x, T* y, int64_t n, float p, RandomKey random, int64_t first) {
  // Keep when the 32-bit number reaches p * 2^32: the comparison is exact in integers.
  const auto threshold = static_cast<uint32_t>(static_cast<double>(p) * 0x1p32);
  using W = Wide<T>;
  const W scale = W(1) / (W(1) - static_cast<W>(p));
  uint32_t numbers[4 * lanes];
  for (int64_t i = 0; i < n;) {
    const auto position = static_cast<uint64_t>(first + i);
    philox_blocks(random, position / 4, numbers);
    const uint32_t* number = numbers + position % 4;
    const int64_t count = std::min(n - i, static_cast<int64_t>(4 * lanes - position % 4));
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
