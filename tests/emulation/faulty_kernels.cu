// Each kernel has one fault, which a GPU might or might not show.
#include "duet/tests/emulation/sample_kernels.h"
#include "duet/tests/emulation/start.h"

namespace duet::emulation::samples {

namespace {

__global__ void missing_barrier_kernel(int* out) {
  __shared__ int values[64];
  values[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = values[63 - threadIdx.x];
}

// The next round's writes may overtake this round's reads.
__global__ void missing_second_barrier_kernel(int* out) {
  __shared__ int values[64];
  for (int round = 0; round < 2; round++) {
    values[threadIdx.x] = threadIdx.x + round;
    __syncthreads();
    out[threadIdx.x] = values[63 - threadIdx.x];
  }
}

__global__ void divergent_barrier_kernel(int* out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void barrier_after_return_kernel(int* out) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void barrier_against_shuffle_kernel(int* out) {
  if (threadIdx.x % 2) {
    __syncthreads();
  } else {
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
  }
}

__global__ void shuffle_from_returned_lane_kernel(int* out) {
  if (threadIdx.x == 9) return;
  out[threadIdx.x] = __shfl_down_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1);
}

__global__ void shuffle_outside_mask_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, static_cast<int>(threadIdx.x), 20);
}

__global__ void different_warp_operations_kernel(int* out) {
  const int x = static_cast<int>(threadIdx.x);
  out[x] = x < 16 ? __shfl_xor_sync(0xffffffffu, x, 1) : __shfl_down_sync(0xffffffffu, x, 1);
}

__global__ void unwritten_shared_kernel(float* out) {
  __shared__ float values[32];
  if (threadIdx.x != 13) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void shared_out_of_bounds_kernel(int* out, int index) {
  __shared__ int values[32];
  values[threadIdx.x + index] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

// Uses number `index` of the integers that the launch's shared memory holds.
__global__ void dynamic_shared_kernel(int* out, int index, bool written) {
  DUET_DYNAMIC_SHARED(memory);
  int* const values = reinterpret_cast<int*>(memory);
  if (written) values[index] = index;
  out[0] = values[index];
}

// Every block changes a half word of its own and, with `peek`, first reads the next block's.
__global__ void half_words_kernel(unsigned short* x, bool peek) {
  const unsigned short before = x[blockIdx.x], next = peek ? x[blockIdx.x + 1] : 0;
  x[blockIdx.x] = static_cast<unsigned short>(before + 1 + next);
}

__global__ void cross_block_race_kernel(int* out) {
  if (threadIdx.x == 0) out[0] = static_cast<int>(blockIdx.x);
}

__global__ void write_at_kernel(float* out, long long index) {
  out[index] = 1;
}
__global__ void read_at_kernel(float* out, const float* in, long long index) {
  out[0] = in[index];
}

__global__ void misaligned_float4_kernel(float* y, const float* x) {
  *reinterpret_cast<float4*>(y) = *reinterpret_cast<const float4*>(x + 1);
}

__global__ void stop_itself_kernel() {
  __trap();
}

__device__ int recurse(volatile int* above, int depth) {
  volatile int local[256];
  local[depth % 256] = *above + depth;
  return depth == 0 ? local[0] : recurse(local + depth % 256, depth - 1) + local[depth % 256];
}
__global__ void deep_recursion_kernel(int* out, int depth) {
  int first = 0;
  *out = recurse(&first, depth);
}

__global__ void launch_shape_kernel(int* out) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = static_cast<int>(block * 10000 + thread);
}

}  // namespace

cudaError_t missing_barrier(int* out) {
  return start(missing_barrier_kernel, dim3(1), dim3(64), nullptr, out);
}
cudaError_t missing_second_barrier(int* out) {
  return start(missing_second_barrier_kernel, dim3(1), dim3(64), nullptr, out);
}
cudaError_t divergent_barrier(int* out) {
  return start(divergent_barrier_kernel, dim3(1), dim3(64), nullptr, out);
}
cudaError_t barrier_after_return(int* out) {
  return start(barrier_after_return_kernel, dim3(1), dim3(64), nullptr, out);
}
cudaError_t barrier_against_shuffle(int* out) {
  return start(barrier_against_shuffle_kernel, dim3(1), dim3(32), nullptr, out);
}
cudaError_t shuffle_from_returned_lane(int* out) {
  return start(shuffle_from_returned_lane_kernel, dim3(1), dim3(32), nullptr, out);
}
cudaError_t shuffle_outside_mask(int* out) {
  return start(shuffle_outside_mask_kernel, dim3(1), dim3(32), nullptr, out);
}
cudaError_t different_warp_operations(int* out) {
  return start(different_warp_operations_kernel, dim3(1), dim3(32), nullptr, out);
}
cudaError_t unwritten_shared(float* out) {
  return start(unwritten_shared_kernel, dim3(1), dim3(32), nullptr, out);
}
cudaError_t shared_out_of_bounds(int* out, int index) {
  return start(shared_out_of_bounds_kernel, dim3(1), dim3(32), nullptr, out, index);
}
cudaError_t dynamic_shared(int* out, int index, bool written, size_t bytes) {
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  config.dynamicSmemBytes = bytes;
  return cudaLaunchKernelEx(&config, dynamic_shared_kernel, out, index, written);
}
cudaError_t allow_dynamic_shared(int bytes) {
  return cudaFuncSetAttribute(dynamic_shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}
cudaError_t half_words(unsigned short* x, int count, bool peek) {
  return start(half_words_kernel, dim3(static_cast<unsigned>(count)), dim3(1), nullptr, x, peek);
}
cudaError_t cross_block_race(int* out) {
  return start(cross_block_race_kernel, dim3(2), dim3(32), nullptr, out);
}
cudaError_t write_at(float* out, long long index) {
  return start(write_at_kernel, dim3(1), dim3(1), nullptr, out, index);
}
cudaError_t read_at(float* out, const float* in, long long index) {
  return start(read_at_kernel, dim3(1), dim3(1), nullptr, out, in, index);
}
cudaError_t misaligned_float4(float* y, const float* x) {
  return start(misaligned_float4_kernel, dim3(1), dim3(1), nullptr, y, x);
}
cudaError_t stop_itself() {
  return start(stop_itself_kernel, dim3(1), dim3(1), nullptr);
}
cudaError_t deep_recursion(int* out, int depth) {
  return start(deep_recursion_kernel, dim3(1), dim3(1), nullptr, out, depth);
}
cudaError_t launch_shape(int* out, dim3 grid, dim3 block) {
  return start(launch_shape_kernel, grid, block, nullptr, out);
}

}  // namespace duet::emulation::samples
