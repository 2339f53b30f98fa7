#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "duet/core/error.h"

namespace duet::cuda {

// Throws Error naming the call and CUDA's own words unless it succeeded.
inline void check_cuda(cudaError_t status, const char* call) {
  duet::check(status == cudaSuccess, "cuda", call, ": ", cudaGetErrorName(status), ", ", cudaGetErrorString(status));
}

inline void check_cublas(cublasStatus_t status, const char* call) {
  duet::check(status == CUBLAS_STATUS_SUCCESS, "cublas", call, ": ", cublasLtGetStatusString(status));
}

}  // namespace duet::cuda
