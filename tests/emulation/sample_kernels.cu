#include "duet/tests/emulation/sample_kernels.h"

#include "duet/tests/emulation/start.h"

namespace duet::emulation::samples {

namespace {

__global__ void __launch_bounds__(256)
    scale_kernel(float* __restrict__ y, const float* __restrict__ x, float factor, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = factor * __ldg(x + i);
}

__device__ float warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// One block per row.
__global__ void row_sums_kernel(float* sums, const float* x, int columns) {
  __shared__ float partial[8];
  float sum = 0;
  const float* row = x + static_cast<size_t>(blockIdx.x) * columns;
  for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += row[i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = warp_sum(threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0f);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
}

__global__ void transpose_kernel(float* y, const float* x, int rows, int columns) {
  __shared__ float tile[32][33];
  int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
  for (int i = 0; i < 32; i += 8) {
    if (column < columns && row + i < rows) tile[threadIdx.y + i][threadIdx.x] = x[(row + i) * columns + column];
  }
  __syncthreads();
  column = blockIdx.y * 32 + threadIdx.x;
  row = blockIdx.x * 32 + threadIdx.y;
  for (int i = 0; i < 32; i += 8) {
    if (column < rows && row + i < columns) y[(row + i) * rows + column] = tile[threadIdx.x][threadIdx.y + i];
  }
}

__global__ void histogram_kernel(int* counts, const int* values, int n, int bins) {
  __shared__ int local[64];
  for (int i = threadIdx.x; i < bins; i += blockDim.x) local[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    atomicAdd(&local[values[i]], 1);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < bins; i += blockDim.x) atomicAdd(&counts[i], local[i]);
}

__global__ void add_bf16_kernel(__nv_bfloat16* y, const __nv_bfloat16* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __float2bfloat16_rn(__bfloat162float(x[i]) + __bfloat162float(y[i]));
}

__global__ void copy_float4_kernel(float* y, const float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (4 * i < n) reinterpret_cast<float4*>(y)[i] = reinterpret_cast<const float4*>(x)[i];
}

// Blocks publish their sums; the last to count itself adds them up.
__global__ void total_kernel(float* sum, float* partial, unsigned* done, const float* x, int n) {
  __shared__ bool last;
  float own = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) own += x[i];
  own = warp_sum(own);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = own;
    __threadfence();
    last = atomicAdd(done, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  float all = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) all += partial[i];
  all = warp_sum(all);
  if (threadIdx.x == 0) *sum = all;
}

__global__ void warp_operations_kernel(int* out) {
  const int lane = threadIdx.x, value = lane * lane;
  const unsigned all = 0xffffffffu;
  out[lane] = __shfl_sync(all, value, 5);
  out[32 + lane] = __shfl_up_sync(all, value, 3);
  out[64 + lane] = __shfl_down_sync(all, value, 3, 16);
  out[96 + lane] = __shfl_xor_sync(all, value, 9);
  out[128 + lane] = static_cast<int>(__ballot_sync(all, value % 3 == 0));
  out[160 + lane] = __any_sync(all, lane == 7) + 2 * __all_sync(all, lane < 32) + 4 * __all_sync(all, lane < 31);
  out[192 + lane] = lane < 16 ? __shfl_sync(0x0000ffffu, value, 15 - lane) : __shfl_sync(0xffff0000u, value, 31);
  out[224 + lane] = static_cast<int>(__shfl_xor_sync(all, static_cast<double>(value) * 1e9, 1) / 1e9);
}

__global__ void block_votes_kernel(int* out) {
  const int i = threadIdx.x;
  out[i] = __syncthreads_count(i % 3 == 0) * 100 + __syncthreads_and(i >= 0) * 10 + __syncthreads_or(i == 7);
}

__global__ void shared_by_warp_kernel(int* out, bool synchronise) {
  __shared__ int values[32];
  const int lane = threadIdx.x;
  for (int round = 0; round < 3; round++) {
    values[lane] = lane + round;
    if (synchronise) __syncwarp();
    out[lane] = values[31 - lane];
    if (synchronise) __syncwarp();
  }
}

}  // namespace

cudaError_t scale(float* y, const float* x, float factor, int n, cudaStream_t stream, int blocks) {
  return start(scale_kernel, dim3(blocks ? blocks : (n + 255) / 256), dim3(256), stream, y, x, factor, n);
}
cudaError_t row_sums(float* sums, const float* x, int rows, int columns, cudaStream_t stream) {
  return start(row_sums_kernel, dim3(rows), dim3(256), stream, sums, x, columns);
}
cudaError_t transpose(float* y, const float* x, int rows, int columns) {
  const dim3 grid((columns + 31) / 32, (rows + 31) / 32);
  return start(transpose_kernel, grid, dim3(32, 8), nullptr, y, x, rows, columns);
}
cudaError_t histogram(int* counts, const int* values, int n, int bins) {
  return start(histogram_kernel, dim3(4), dim3(96), nullptr, counts, values, n, bins);
}
cudaError_t add_bf16(__nv_bfloat16* y, const __nv_bfloat16* x, int n) {
  return start(add_bf16_kernel, dim3((n + 63) / 64), dim3(64), nullptr, y, x, n);
}
cudaError_t copy_float4(float* y, const float* x, int n) {
  return start(copy_float4_kernel, dim3(1), dim3((n + 3) / 4), nullptr, y, x, n);
}
cudaError_t total(float* sum, float* partial, unsigned* done, const float* x, int n) {
  return start(total_kernel, dim3(7), dim3(32), nullptr, sum, partial, done, x, n);
}
cudaError_t warp_operations(int* out) {
  return start(warp_operations_kernel, dim3(1), dim3(32), nullptr, out);
}
cudaError_t block_votes(int* out, int threads) {
  return start(block_votes_kernel, dim3(1), dim3(threads), nullptr, out);
}
cudaError_t shared_by_warp(int* out, bool synchronise) {
  return start(shared_by_warp_kernel, dim3(1), dim3(32), nullptr, out, synchronise);
}

}  // namespace duet::emulation::samples
