#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "duet/cuda/check.h"
#include "duet/cuda/context.h"

namespace duet {
namespace cuda {
namespace {

// Page-locked memory, which the device can read by itself while the CPU goes on.
struct Lane {
  std::byte* staging = nullptr;
  size_t capacity = 0;
  cudaEvent_t used = nullptr;   // kernels no longer need what was copied last
  cudaEvent_t ready = nullptr;  // the copies are complete
};
struct Lanes {
  cudaStream_t stream = nullptr;
  std::array<Lane, upload_lanes> lanes;
};

Lanes& lanes_of(const Context& context) {
  static std::map<int, std::unique_ptr<Lanes>> all;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  auto& mine = all[context.index];
  if (mine) return *mine;
  mine = std::make_unique<Lanes>();
  check_cuda(cudaStreamCreateWithFlags(&mine->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  for (Lane& lane : mine->lanes)
    for (cudaEvent_t* event : {&lane.used, &lane.ready}) {
      check_cuda(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
      check_cuda(cudaEventRecord(*event, context.stream), "cudaEventRecord");
    }
  return *mine;
}

void reserve(Lane& lane, size_t bytes) {
  if (bytes <= lane.capacity) return;
  if (lane.staging != nullptr) check_cuda(cudaFreeHost(lane.staging), "cudaFreeHost");
  lane.staging = nullptr;
  lane.capacity = 0;
  check_cuda(cudaMallocHost(reinterpret_cast<void**>(&lane.staging), bytes), "cudaMallocHost");
  lane.capacity = bytes;
}

}  // namespace
}  // namespace cuda

void upload_begin(CudaContext which, int index, void* to, const void* from, size_t bytes) {
  cuda::Context& context = cuda::context_of(which);
  cuda::Lanes& lanes = cuda::lanes_of(context);
  cuda::Lane& lane = lanes.lanes.at(static_cast<size_t>(index));
  // The staging memory's last copy must be over before it is written again.
  cuda::wait_for_others(context, lane.ready);
  cuda::check_cuda(cudaEventSynchronize(lane.ready), "cudaEventSynchronize");
  cuda::reserve(lane, bytes);
  std::memcpy(lane.staging, from, bytes);
  cuda::check_cuda(cudaStreamWaitEvent(lanes.stream, lane.used, 0), "cudaStreamWaitEvent");
  cuda::check_cuda(cudaMemcpyAsync(to, lane.staging, bytes, cudaMemcpyHostToDevice, lanes.stream), "cudaMemcpyAsync");
  cuda::check_cuda(cudaEventRecord(lane.ready, lanes.stream), "cudaEventRecord");
}

void upload_await(CudaContext which, int index) {
  cuda::Context& context = cuda::context_of(which);
  cuda::check_cuda(
      cudaStreamWaitEvent(context.stream, cuda::lanes_of(context).lanes.at(static_cast<size_t>(index)).ready, 0),
      "cudaStreamWaitEvent");
}

void upload_used(CudaContext which, int index) {
  cuda::Context& context = cuda::context_of(which);
  cuda::check_cuda(cudaEventRecord(cuda::lanes_of(context).lanes.at(static_cast<size_t>(index)).used, context.stream),
                   "cudaEventRecord");
}

}  // namespace duet
