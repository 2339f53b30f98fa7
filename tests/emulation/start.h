// Launches a sample kernel.
#pragma once

#include <cuda_runtime_api.h>

namespace duet::emulation::samples {

template <class... P, class... A>
cudaError_t start(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace duet::emulation::samples
