#include "duet/cuda/cudnn_handle.h"

#include <cstdio>
#include <map>
#include <mutex>

#include "duet/cuda/context.h"

namespace duet::cuda {

cudnnHandle_t cudnn_handle(CudaContext which) {
  static std::map<int, cudnnHandle_t> handles;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (const auto found = handles.find(which.index); found != handles.end()) return found->second;
  cudaStream_t const stream = context_of(which).stream;  // the device becomes the thread's current one
  cudnnHandle_t handle = nullptr;
  cudnnStatus_t status = cudnnCreate(&handle);
  if (status == CUDNN_STATUS_SUCCESS) status = cudnnSetStream(handle, stream);
  if (status != CUDNN_STATUS_SUCCESS) {
    std::fprintf(stderr,
                 "note: cuDNN cannot be used (%s); duet's own kernels do its work, bfloat16 attention among it\n",
                 cudnnGetErrorString(status));
    if (handle != nullptr) cudnnDestroy(handle);
    handle = nullptr;
  }
  return handles[which.index] = handle;
}

}  // namespace duet::cuda
