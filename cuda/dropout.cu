#include "duet/ops/dropout.h"

#include "duet/cuda/device.cuh"

namespace duet {
namespace cuda {
namespace {

// Four elements a thread, one Philox block. The last block may be partial.
template <class T>
__global__ void dropout_kernel(const T* x, T* y, int64_t n, uint32_t threshold, float scale, DeviceKey random) {
  const int64_t block = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, first = block * 4;
  if (first >= n) return;
  const auto numbers = philox(random.resolve(), static_cast<uint64_t>(block));
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (first + j < n) y[first + j] = from_float<T>(numbers[j] >= threshold ? to_float(x[first + j]) * scale : 0.0f);
}

}  // namespace
}  // namespace cuda

namespace ops {

template <class T>
void dropout_forward(CudaContext context, const T* x, T* y, int64_t n, float p, RandomKey random) {
  const auto threshold = static_cast<uint32_t>(static_cast<double>(p) * 0x1p32);
  cuda::launch(context, "dropout", cuda::dropout_kernel<T>, cuda::blocks_for((n + 3) / 4, 256, 1 << 30), dim3(256), x,
               y, n, threshold, 1.0f / (1.0f - p), cuda::device_key(context, random));
}
template void dropout_forward<float>(CudaContext, const float*, float*, int64_t, float, RandomKey);
template void dropout_forward<bf16>(CudaContext, const bf16*, bf16*, int64_t, float, RandomKey);

}  // namespace ops
}  // namespace duet
