#include <algorithm>

#include "duet/core/backend.h"
#include "duet/core/dispatch.h"
#include "duet/cuda/check.h"
#include "duet/cuda/device.cuh"
#include "duet/ops/concat.h"

namespace duet {
namespace cuda {
namespace {

struct Words {
  uint64_t values[8];
};
__global__ void write_words_kernel(uint64_t* to, Words words, int count) {
  if (static_cast<int>(threadIdx.x) < count) to[threadIdx.x] = words.values[threadIdx.x];
}

template <class T>
__global__ void fill_kernel(T* to, int64_t n, T value) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) to[i] = value;
}

__global__ void count_kernel(int64_t* to, int64_t n) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) to[i] = i;
}

template <class To, class From>
__global__ void convert_kernel(const From* from, To* to, int64_t n) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) {
    if constexpr (std::is_same_v<To, bf16> || std::is_same_v<From, bf16>) {
      if constexpr (std::is_same_v<To, float> || std::is_same_v<From, float>)
        to[i] = from_float<To>(to_float(from[i]));
      else
        to[i] = convert<To>(from[i]);
    } else {
      to[i] = static_cast<To>(from[i]);
    }
  }
}

// Four elements a thread; n is a multiple of four and both are aligned.
template <class To, class From>
__global__ void convert_packs_kernel(const From* from, To* to, int64_t n) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (i >= n) return;
  float v[4];
  load<4>(from + i, v);
  store<4>(v, to + i);
}

// Copies words of type W from block to block; all sizes are in words.
template <class W>
__global__ void copy_blocks_kernel(const W* source, int64_t source_stride, W* target, int64_t target_stride,
                                   int64_t block, int64_t total) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride) {
    const int64_t b = i / block, offset = i % block;
    target[b * target_stride + offset] = source[b * source_stride + offset];
  }
}

}  // namespace
}  // namespace cuda

void copy_bytes(CudaContext which, void* to, const void* from, size_t bytes, bool to_host, bool from_host) {
  check(!cuda::recording() || !(to_host || from_host), "cuda",
        "a recorded step cannot copy from or to the CPU: the copy would not be repeated with other values");
  cuda::Context& context = cuda::context_of(which);
  if (to_host) cuda::wait_for_others(context);  // a copy to memory that is not page-locked waits inside of the driver
  if (bytes > 0)
    cuda::check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, context.stream), "cudaMemcpyAsync");
  if (to_host) cuda::finish(context);
}

void write_words(CudaContext context, uint64_t* to, const uint64_t* words, int count) {
  check(count >= 0 && count <= 8, "cuda", "write_words takes at most eight words, got ", count);
  cuda::Words values{};
  std::copy_n(words, count, values.values);
  cuda::launch(context, "write_words", cuda::write_words_kernel, dim3(1), dim3(cuda::warp), to, values, count);
}

void zero_bytes(CudaContext which, void* to, size_t bytes) {
  if (bytes == 0) return;
  cuda::Context& context = cuda::context_of(which);
  const cuda::Timed timed(context, "memset");
  cuda::check_cuda(cudaMemsetAsync(to, 0, bytes, context.stream), "cudaMemsetAsync");
}

template <class T>
void fill_elements(CudaContext context, T* to, int64_t count, T value) {
  if (count == 0) return;
  cuda::launch(context, "fill", cuda::fill_kernel<T>, cuda::blocks_for(count, 256), dim3(256), to, count, value);
}

void count_elements(CudaContext context, int64_t* to, int64_t count) {
  if (count == 0) return;
  cuda::launch(context, "count", cuda::count_kernel, cuda::blocks_for(count, 256), dim3(256), to, count);
}

template <class To, class From>
void convert_elements(CudaContext context, const From* from, To* to, int64_t count) {
  if (count == 0) return;
  if constexpr ((std::is_same_v<To, bf16> && std::is_same_v<From, float>) ||
                (std::is_same_v<To, float> && std::is_same_v<From, bf16>)) {
    if (count % 4 == 0 && cuda::aligned16(from, to))
      return cuda::launch(context, "convert", cuda::convert_packs_kernel<To, From>,
                          cuda::blocks_for(count / 4, 256, 1 << 30), dim3(256), from, to, count);
  }
  cuda::launch(context, "convert", cuda::convert_kernel<To, From>, cuda::blocks_for(count, 256), dim3(256), from, to,
               count);
}

#define DUET_INSTANTIATE_TO(To, From) template void convert_elements<To, From>(CudaContext, const From*, To*, int64_t);
#define DUET_INSTANTIATE(T)                                    \
  template void fill_elements<T>(CudaContext, T*, int64_t, T); \
  DUET_INSTANTIATE_TO(T, double)                               \
  DUET_INSTANTIATE_TO(T, float)                                \
  DUET_INSTANTIATE_TO(T, bf16)                                 \
  DUET_INSTANTIATE_TO(T, int64_t)                              \
  DUET_INSTANTIATE_TO(T, int32_t)                              \
  DUET_INSTANTIATE_TO(T, uint8_t)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)
DUET_INSTANTIATE(int64_t)
DUET_INSTANTIATE(int32_t)
DUET_INSTANTIATE(uint8_t)

namespace ops {

void copy_blocks(CudaContext context, const std::byte* source, size_t source_stride, std::byte* target,
                 size_t target_stride, size_t block, int64_t count) {
  if (block == 0 || count == 0) return;
  const auto start = [&]<class W>(W) {
    const auto words = [](size_t bytes) { return static_cast<int64_t>(bytes / sizeof(W)); };
    const int64_t total = count * words(block);
    cuda::launch(context, "copy_blocks", cuda::copy_blocks_kernel<W>, cuda::blocks_for(total, 256), dim3(256),
                 reinterpret_cast<const W*>(source), words(source_stride), reinterpret_cast<W*>(target),
                 words(target_stride), words(block), total);
  };
  // The widest word that all places and sizes are multiples of.
  const size_t odd =
      block | source_stride | target_stride | reinterpret_cast<uintptr_t>(source) | reinterpret_cast<uintptr_t>(target);
  if (odd % 16 == 0)
    start(uint4{});
  else if (odd % 4 == 0)
    start(uint32_t{});
  else if (odd % 2 == 0)
    start(uint16_t{});
  else
    start(uint8_t{});
}

}  // namespace ops
}  // namespace duet
