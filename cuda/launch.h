#pragma once

#include "duet/cuda/check.h"
#include "duet/cuda/context.h"

namespace duet::cuda {

// Whether to wait after every kernel, so that a failure is reported where it happened: the environment's
// DUET_CUDA_SYNCHRONIZE=1.
bool synchronous_launches();

// A block's threads, and the bytes of shared memory that it takes beside its kernel's variables (dynamic_shared() in
// device.cuh).
struct BlockShape {
  dim3 threads;
  size_t shared_bytes;
  BlockShape(dim3 count, size_t bytes = 0) : threads(count), shared_bytes(bytes) {}
};

// The one way to start a kernel: on the device's compute stream, checked, and timed while profiling. A grid without
// blocks has nothing to do.
template <class... P, class... A>
void launch(CudaContext which, const char* name, void (*kernel)(P...), dim3 grid, BlockShape block, A&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  Context& context = context_of(which);
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block.threads;
  config.dynamicSmemBytes = block.shared_bytes;
  config.stream = context.stream;
  if (block.shared_bytes > 0) {  // more than 48 KiB must be asked for, and as many blocks as possible shall fit
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(block.shared_bytes)),
        name);
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                    static_cast<int>(cudaSharedmemCarveoutMaxShared)),
               name);
  }
  const Timed timed(context, name);
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<A>(args)...), name);
  if (!synchronous_launches() || recording()) return;
  wait_for_others(context);
  check_cuda(cudaStreamSynchronize(context.stream), name);
}

// Blocks for n items at `per_block` each, at most `most` (kernels then loop over the rest).
inline dim3 blocks_for(int64_t n, int64_t per_block, int64_t most = 1 << 20) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  return dim3(static_cast<unsigned>(blocks < most ? blocks : most));
}

}  // namespace duet::cuda
