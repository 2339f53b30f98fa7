#pragma once

#include <cuda_bf16.h>

#include <bit>
#include <cstdint>
#include <type_traits>

#include "duet/core/dtype.h"
#include "duet/core/philox.h"
#include "duet/cuda/launch.h"

// What kernels share: conversions, wide loads, reductions.
namespace duet::cuda {

constexpr int warp = 32;
constexpr unsigned all_lanes = 0xffffffffu;

__device__ inline float to_float(float v) {
  return v;
}
__device__ inline float to_float(bf16 v) {
  return __uint_as_float(static_cast<unsigned>(v.bits) << 16);
}
template <class T>
__device__ inline T from_float(float v) {
  if constexpr (std::is_same_v<T, bf16>) {
    bf16 result;
    result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(v));
    return result;
  } else {
    return v;
  }
}

// `n` neighbouring elements, moved in one access of up to 16 bytes. bf16 lies in pairs, since a register that holds a
// single one is half empty.
template <class T, int n>
struct alignas(sizeof(T) * n) Pack {
  static constexpr bool pairs = std::is_same_v<T, bf16> && n % 2 == 0;
  std::conditional_t<pairs, uint32_t, T> v[pairs ? n / 2 : n];
};
template <class T>
inline constexpr int full_pack = 16 / static_cast<int>(sizeof(T));

template <int n, class T>
__device__ inline Pack<T, n> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, n>*>(from);
}
template <class T, int n>
__device__ inline void to_floats(const Pack<T, n>& from, float (&to)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i)
    if constexpr (Pack<T, n>::pairs)
      to[i] = __uint_as_float(i % 2 == 0 ? from.v[i / 2] << 16 : from.v[i / 2] & 0xffff0000u);
    else
      to[i] = to_float(from.v[i]);
}
template <class T, int n>
__device__ inline Pack<T, n> to_pack(const float (&from)[n]) {
  Pack<T, n> to;
  if constexpr (Pack<T, n>::pairs) {
#pragma unroll
    for (int i = 0; i < n / 2; ++i) {
      const __nv_bfloat162_raw pair = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);  // one instruction
      to.v[i] = pair.x | static_cast<uint32_t>(pair.y) << 16;
    }
  } else {
#pragma unroll
    for (int i = 0; i < n; ++i) to.v[i] = from_float<T>(from[i]);
  }
  return to;
}
// For where nvcc, left to itself, stores a pack word by word.
template <class T, int n>
__device__ inline void store_pack(const Pack<T, n>& from, T* to) {
  if constexpr (sizeof(from) == sizeof(uint4))
    __stwb(reinterpret_cast<uint4*>(to), std::bit_cast<uint4>(from));
  else
    *reinterpret_cast<Pack<T, n>*>(to) = from;
}
template <int n, class T>
__device__ inline void load(const T* from, float (&to)[n]) {
  to_floats(load_pack<n>(from), to);
}
template <int n, class T>
__device__ inline void store(const float (&from)[n], T* to) {
  *reinterpret_cast<Pack<T, n>*>(to) = to_pack<T>(from);
}

// `n` floats of a parameter from a 16-byte aligned place. One access for four: neighbouring lanes read places n floats
// apart, so that single floats would take n accesses to the same cache lines.
template <int n>
__device__ inline void load_floats(const float* from, float (&to)[n]) {
  constexpr int step = n % 4 == 0 ? 4 : 1;
#pragma unroll
  for (int i = 0; i < n; i += step) {
    const auto pack = *reinterpret_cast<const Pack<float, step>*>(from + i);
#pragma unroll
    for (int j = 0; j < step; ++j) to[i + j] = pack.v[j];
  }
}

// The shared memory that a launch asks for (BlockShape), aligned to 16 bytes. Tests that run kernels on the CPU bring
// their own.
#ifndef DUET_DYNAMIC_SHARED
#define DUET_DYNAMIC_SHARED(name) extern __shared__ float4 name[]
#endif
__device__ inline float* dynamic_shared() {
  DUET_DYNAMIC_SHARED(launched_shared_memory);
  return reinterpret_cast<float*>(launched_shared_memory);
}

template <class... P>
bool aligned16(const P*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
  __device__ double operator()(double a, double b) const { return a + b; }
};
struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

template <class V, class F>
__device__ inline V warp_reduce(V value, F f) {
#pragma unroll
  for (int offset = warp / 2; offset > 0; offset /= 2) value = f(value, __shfl_xor_sync(all_lanes, value, offset));
  return value;
}

// The reduction over the `threads` threads that share a row, in a fixed order, given to all of them. `threads` is 32,
// for a warp of its own, or the whole block.
template <int threads, class V, class F>
__device__ inline V row_reduce(V value, F f) {
  value = warp_reduce(value, f);
  if constexpr (threads > warp) {
    constexpr int warps = threads / warp;
    __shared__ V parts[warps];
    __syncthreads();  // an earlier reduction may still be read
    if (threadIdx.x % warp == 0) parts[threadIdx.x / warp] = value;
    __syncthreads();
    value = parts[0];
#pragma unroll
    for (int i = 1; i < warps; ++i) value = f(value, parts[i]);
  }
  return value;
}

// Rows are shared by a warp each, or by a whole block when they are long. Both are blocks of 128 threads.
constexpr int block_threads = 128;
constexpr int64_t long_row = 2048;

template <int threads>
__device__ inline int64_t row_index() {
  return static_cast<int64_t>(blockIdx.x) * (block_threads / threads) + threadIdx.x / threads;
}
template <int threads>
__device__ inline int row_lane() {
  return static_cast<int>(threadIdx.x) % threads;
}

// Calls f(threads, pack) with both as compile-time constants: how many threads share a row of `width`, and how many
// elements of T each access takes. `aligned` says that all rows start at multiples of 16 bytes.
template <class T, class F>
void with_row_layout(int64_t width, bool aligned, F&& f) {
  const bool packs = aligned && width % full_pack<T> == 0;
  const auto with_pack = [&](auto threads) {
    if (packs)
      f(threads, std::integral_constant<int, full_pack<T>>{});
    else
      f(threads, std::integral_constant<int, 1>{});
  };
  if (width > long_row)
    with_pack(std::integral_constant<int, block_threads>{});
  else
    with_pack(std::integral_constant<int, warp>{});
}
template <int threads>
dim3 row_blocks(int64_t rows) {
  constexpr int64_t per_block = block_threads / threads;
  return dim3(static_cast<unsigned>((rows + per_block - 1) / per_block));
}

// A random key as kernels take it.
struct DeviceKey {
  RandomKey key;
  const uint64_t* salt;  // null unless the key is salted
  __device__ RandomKey resolve() const {
    RandomKey result = key;
    if (salt != nullptr) result.seed ^= *salt;
    return result;
  }
};
inline DeviceKey device_key(CudaContext context, RandomKey key) {
  return {key, key.salted ? context_of(context).salt : nullptr};
}

// Records the first thing that is wrong with an input.
__device__ inline void report(Fault* fault, Finding finding, long long value, long long position, long long limit) {
  if (atomicCAS(&fault->finding, 0, static_cast<int>(finding)) != 0) return;
  fault->value = value;
  fault->position = position;
  fault->limit = limit;
}

}  // namespace duet::cuda
