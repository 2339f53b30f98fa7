#include "duet/ops/embedding.h"

#include "duet/core/backend.h"
#include "duet/core/parallel.h"

namespace duet::ops {
namespace {

template <class T, class Index>
void add_rows(const Index* ids, int64_t count, int64_t padding_idx, const T* dy, Rows<Wide<T>> sums) {
  const int64_t width = sums.width;
  parallel_for(
      width, 32,
      [&](int64_t begin, int64_t end) {
        for (int64_t i = 0; i < count; ++i) {
          const auto id = static_cast<int64_t>(ids[i]);
          if (id == padding_idx) continue;
          Wide<T>* row = sums.row(id);
          for (int64_t c = begin; c < end; ++c) row[c] += static_cast<Wide<T>>(dy[i * width + c]);
        }
      },
      1);
}

}  // namespace

template <class T, class Index>
void embedding_forward(CpuContext, const Index* ids, int64_t count, Rows<const T> weight, T* y) {
  parallel_for(count, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::copy_n(weight.row(static_cast<int64_t>(ids[i])), weight.width, y + i * weight.width);
  });
}

template <class T, class Index>
void embedding_backward(CpuContext context, const Index* ids, int64_t count, int64_t padding_idx, const T* dy,
                        Rows<T> dweight) {
  if constexpr (std::is_same_v<T, Wide<T>>) {
    add_rows<T>(ids, count, padding_idx, dy, dweight);
  } else {
    const int64_t n = dweight.count * dweight.width;
    const Tensor room = Tensor::empty({dweight.count, dweight.width}, wide(dtype_of<T>()));
    const Rows<Wide<T>> sums = rows<Wide<T>>(room);
    convert_elements<Wide<T>, T>(context, dweight.data, sums.data, n);
    add_rows<T>(ids, count, padding_idx, dy, sums);
    convert_elements<T, Wide<T>>(context, sums.data, dweight.data, n);
  }
}

#define DUET_INSTANTIATE(T, I)                                                             \
  template void embedding_forward<T, I>(CpuContext, const I*, int64_t, Rows<const T>, T*); \
  template void embedding_backward<T, I>(CpuContext, const I*, int64_t, int64_t, const T*, Rows<T>);
DUET_INSTANTIATE(float, int32_t)
DUET_INSTANTIATE(float, int64_t)
DUET_INSTANTIATE(double, int32_t)
DUET_INSTANTIATE(double, int64_t)
DUET_INSTANTIATE(bf16, int32_t)
DUET_INSTANTIATE(bf16, int64_t)

}  // namespace duet::ops
