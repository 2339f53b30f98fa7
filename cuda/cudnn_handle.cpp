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
  const auto [place, added] = handles.try_emplace(which.index, nullptr);
  if (!added) return place->second;
  cudnnHandle_t handle = nullptr;
  cudnnStatus_t status = cudnnCreate(&handle);
  if (status == CUDNN_STATUS_SUCCESS) status = cudnnSetStream(handle, context_of(which).stream);
  if (status == CUDNN_STATUS_SUCCESS)
    place->second = handle;
  else
    std::fprintf(stderr, "note: cuDNN cannot be used (%s); bfloat16 attention runs in duet's own kernels\n",
                 cudnnGetErrorString(status));
  return place->second;
}

}  // namespace duet::cuda
