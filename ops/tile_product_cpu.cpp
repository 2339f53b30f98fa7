#include <algorithm>
#include <vector>

#include "duet/core/cpu.h"
#include "duet/core/dispatch.h"
#include "duet/ops/tile_product.h"
#include "duet/ops/vector_math.h"

namespace duet::ops {
namespace {

// The kernels for elements of type T that this machine can run, or null.
template <class T>
const detail::TileKernels* kernels() {
#ifdef DUET_X86_KERNELS
  static const detail::TileKernels* const chosen = []() -> const detail::TileKernels* {
    const bool avx512 = cpu_instructions() == CpuInstructions::avx512;
    if (std::is_same_v<T, float> && avx512)
      return cpu_is_intel() ? &detail::avx512_direct_tiles : &detail::avx512_tiles;
    if (std::is_same_v<T, float> && cpu_instructions() == CpuInstructions::avx2) return &detail::avx2_tiles;
    if (std::is_same_v<T, bf16> && avx512)
      return cpu_has_fast_bfloat16() ? &detail::avx512_bf16_tiles : &detail::avx512_widened_tiles;
    return nullptr;
  }();
  return chosen;
#else
  return nullptr;
#endif
}

// Whether the kernels compute with bfloat16 as floats.
template <class T>
bool widened() {
#ifdef DUET_X86_KERNELS
  return std::is_same_v<T, bf16> && kernels<T>() == &detail::avx512_widened_tiles;
#else
  return false;
#endif
}

// The tile as floats, until the thread's next one.
const float* widened_tile(const bf16* from, int64_t rows, int64_t columns) {
  thread_local std::vector<float> memory;
  memory.resize(std::max(memory.size(), static_cast<size_t>(rows * tile_stride)));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      memory[static_cast<size_t>(i * tile_stride + j)] = static_cast<float>(from[i * tile_stride + j]);
  return memory.data();
}

constexpr int64_t padded(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

}  // namespace

template <class T>
int64_t arranged_size(int64_t k, int64_t n) {
  // Kernels fill whole panels, of 24 or 32 columns.
  return padded(k, 2) * padded(n + 23, 32) * (widened<T>() ? 2 : 1);
}

template <class T>
void arrange(int64_t k, int64_t n, Matrix<const T> b, T* to) {
  if (const auto* known = kernels<T>()) return known->arrange(k, n, b.data, b.stride, b.transposed, to);
  for (int64_t l = 0; l < k; ++l)
    for (int64_t j = 0; j < n; ++j) to[l * n + j] = b.data[b.transposed ? j * b.stride + l : l * b.stride + j];
}

template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, const T* a, bool a_transposed, const T* b, bool accumulate,
                  Wide<T>* c, int64_t c_stride) {
  if constexpr (std::is_same_v<T, bf16>)
    if (widened<T>())
      return kernels<T>()->product(m, n, k, widened_tile(a, a_transposed ? k : m, a_transposed ? m : k), a_transposed,
                                   b, accumulate, c, c_stride);
  if constexpr (!std::is_same_v<T, double>)
    if (const auto* known = kernels<T>()) return known->product(m, n, k, a, a_transposed, b, accumulate, c, c_stride);
  gemm<T, Wide<T>>(CpuContext{}, m, n, k, 1, {a, tile_stride, a_transposed}, {b, n}, accumulate ? 1 : 0, {c, c_stride});
}

template <class T>
const T* tile_of(const Wide<T>* from, int64_t rows, int64_t columns, T* to) {
  if constexpr (std::is_same_v<T, Wide<T>>) {
    return from;
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      vector_math<T>().scale(from + i * tile_stride, to + i * tile_stride, columns, 1);
      to[i * tile_stride + columns] = T{};  // what an odd last element is paired with
    }
    return to;
  }
}

template <class T>
const T* tile_of_pairs(const Wide<T>* from, int64_t rows, int64_t columns, T* to) {
  if constexpr (!std::is_same_v<T, Wide<T>>)
    if (const auto* known = kernels<T>(); known && known->pairs) {
      known->pairs(from, rows, columns, to);
      return to;
    }
  return tile_of<T>(from, rows, columns, to);
}

#define DUET_INSTANTIATE(T)                                                                                    \
  template int64_t arranged_size<T>(int64_t, int64_t);                                                         \
  template void arrange<T>(int64_t, int64_t, Matrix<const T>, T*);                                             \
  template void tile_product<T>(int64_t, int64_t, int64_t, const T*, bool, const T*, bool, Wide<T>*, int64_t); \
  template const T* tile_of<T>(const Wide<T>*, int64_t, int64_t, T*);                                          \
  template const T* tile_of_pairs<T>(const Wide<T>*, int64_t, int64_t, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
