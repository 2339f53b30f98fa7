#include <algorithm>
#include <cstring>
#include <numeric>

#include "duet/core/backend.h"
#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"

namespace duet {

CachingAllocator& allocator(CpuContext) {
  return cpu_allocator();
}

void write_words(CpuContext, uint64_t* to, const uint64_t* words, int count) {
  std::copy_n(words, count, to);
}

void zero_bytes(CpuContext, void* to, size_t bytes) {
  // One core alone does not write as fast as memory takes it.
  parallel_for(static_cast<int64_t>(bytes), 1 << 19, [=](int64_t begin, int64_t end) {
    std::memset(static_cast<char*>(to) + begin, 0, static_cast<size_t>(end - begin));
  });
}

template <class T>
void fill_elements(CpuContext, T* to, int64_t count, T value) {
  std::fill_n(to, count, value);
}

void count_elements(CpuContext, int64_t* to, int64_t count) {
  std::iota(to, to + count, 0);
}

template <class To, class From>
void convert_elements(CpuContext, const From* from, To* to, int64_t count) {
  parallel_for(count, 1 << 15, [=](int64_t begin, int64_t end) {
    std::transform(from + begin, from + end, to + begin, [](From value) { return convert<To>(value); });
  });
}

#define DUET_INSTANTIATE_TO(To, From) template void convert_elements<To, From>(CpuContext, const From*, To*, int64_t);
#define DUET_INSTANTIATE(T)                                   \
  template void fill_elements<T>(CpuContext, T*, int64_t, T); \
  DUET_INSTANTIATE_TO(T, double)                              \
  DUET_INSTANTIATE_TO(T, float)                               \
  DUET_INSTANTIATE_TO(T, bf16)                                \
  DUET_INSTANTIATE_TO(T, int64_t)                             \
  DUET_INSTANTIATE_TO(T, int32_t)                             \
  DUET_INSTANTIATE_TO(T, uint8_t)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)
DUET_INSTANTIATE(int64_t)
DUET_INSTANTIATE(int32_t)
DUET_INSTANTIATE(uint8_t)

}  // namespace duet
