#include "duet/ops/embedding.h"

#include "duet/core/parallel.h"

namespace duet::ops {

template <class T, class Index>
void embedding_forward(CpuContext, const Index* ids, int64_t count, Rows<const T> weight, T* y) {
  parallel_for(count, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::copy_n(weight.row(static_cast<int64_t>(ids[i])), weight.width, y + i * weight.width);
  });
}

template <class T, class Index>
void embedding_backward(CpuContext, const Index* ids, int64_t count, int64_t padding_idx, const T* dy,
                        Rows<T> dweight) {
  const int64_t width = dweight.width;
  parallel_for(width, 32, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < count; ++i) {
      const auto id = static_cast<int64_t>(ids[i]);
      if (id == padding_idx) continue;
      T* row = dweight.row(id);
      for (int64_t c = begin; c < end; ++c) row[c] += dy[i * width + c];
    }
  });
}

#define DUET_INSTANTIATE(T, I)                                                             \
  template void embedding_forward<T, I>(CpuContext, const I*, int64_t, Rows<const T>, T*); \
  template void embedding_backward<T, I>(CpuContext, const I*, int64_t, int64_t, const T*, Rows<T>);
DUET_INSTANTIATE(float, int32_t)
DUET_INSTANTIATE(float, int64_t)
DUET_INSTANTIATE(double, int32_t)
DUET_INSTANTIATE(double, int64_t)

}  // namespace duet::ops
