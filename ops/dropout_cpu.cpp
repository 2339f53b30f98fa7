#include "duet/ops/dropout.h"

namespace duet::ops {

template <class T>
void dropout_span(const T* x, T* y, int64_t n, float p, RandomKey random, int64_t first) {
  // Keep when the 32-bit number reaches p * 2^32: the comparison is exact in integers.
  const auto threshold = static_cast<uint64_t>(static_cast<double>(p) * 0x1p32);
  const T scale = T(1) / (T(1) - static_cast<T>(p));
  int64_t i = 0;
  while (i < n) {
    const auto position = static_cast<uint64_t>(first + i);
    const std::array<uint32_t, 4> block = philox(random, position / 4);
    for (size_t lane = position % 4; lane < 4 && i < n; ++lane, ++i)
      y[i] = block[lane] >= threshold ? x[i] * scale : T(0);
  }
}

template void dropout_span<float>(const float*, float*, int64_t, float, RandomKey, int64_t);
template void dropout_span<double>(const double*, double*, int64_t, float, RandomKey, int64_t);

}  // namespace duet::ops
