// Device and pinned memory, copies and fills.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/runtime.h"
#include "duet/tests/emulation/scheduler.h"

using namespace duet::emulation;

namespace {

bool on_device(const void* pointer) {
  return in_arena(reinterpret_cast<uintptr_t>(pointer));
}

// Rows of `width` bytes; a plain copy has one row.
struct Copy {
  void* to;
  size_t to_pitch;
  const void* from;
  size_t from_pitch;
  size_t width, rows;
};

void run_copy(const Copy& copy) {
  const OpenMemory open;
  block_state.any_device = true;
  for (size_t row = 0; row < copy.rows; row++) {
    auto* to = static_cast<std::byte*>(copy.to) + row * copy.to_pitch;
    const auto* from = static_cast<const std::byte*>(copy.from) + row * copy.from_pitch;
    if (on_device(from) && !access_range(from, copy.width, false)) return;
    if (on_device(to) && !access_range(to, copy.width, true)) return;
    std::memcpy(to, from, copy.width);
  }
}

bool direction_fits(const void* to, const void* from, cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyDefault:
      return true;
    case cudaMemcpyHostToHost:
      return !on_device(to) && !on_device(from);
    case cudaMemcpyHostToDevice:
      return on_device(to) && !on_device(from);
    case cudaMemcpyDeviceToHost:
      return !on_device(to) && on_device(from);
    case cudaMemcpyDeviceToDevice:
      return on_device(to) && on_device(from);
  }
  return false;
}

cudaError_t copy(const Copy& copy, cudaMemcpyKind kind, cudaStream_t handle, bool wait) {
  CUstream_st* stream = resolve(handle);
  if (!stream) return report(cudaErrorInvalidResourceHandle);
  if (copy.width == 0 || copy.rows == 0) return report(cudaSuccess);
  if (!copy.to || !copy.from || (copy.rows > 1 && (copy.to_pitch < copy.width || copy.from_pitch < copy.width))) {
    return report(cudaErrorInvalidValue, "copy with a null pointer, or a pitch less than the width");
  }
  if (!direction_fits(copy.to, copy.from, kind)) {
    return report(cudaErrorInvalidValue, duet::text("copy from ", on_device(copy.from) ? "device" : "host", " to ",
                                                    on_device(copy.to) ? "device" : "host",
                                                    " memory does not fit its kind ", static_cast<int>(kind)));
  }
  install_signal_handler();
  const bool from_host = !on_device(copy.from), to_host = !on_device(copy.to);
  const size_t span_from = (copy.rows - 1) * copy.from_pitch + copy.width;
  const size_t span_to = (copy.rows - 1) * copy.to_pitch + copy.width;
  const bool pinned_from = is_pinned(reinterpret_cast<uintptr_t>(copy.from), span_from);
  const bool pinned_to = is_pinned(reinterpret_cast<uintptr_t>(copy.to), span_to);
  Node node{Node::Kind::copy, "copy", [copy] { run_copy(copy); }};
  if (runs_later(*stream) && !stream->capture) {
    if (from_host && !pinned_from) {
      // Memory that is not pinned is read before the call returns.
      const auto* bytes = static_cast<const std::byte*>(copy.from);
      node.work = [copy, staged = std::vector<std::byte>(bytes, bytes + span_from)] {
        Copy from_staged = copy;
        from_staged.from = staged.data();
        run_copy(from_staged);
      };
    } else if (from_host) {
      node.host_source = copy.from;
      node.host_bytes = span_from;
    }
    // Nobody may look at the destination before the copy is done; old contents might pass for the result.
    if (to_host && pinned_to && !is_pending_source(copy.to, span_to)) {
      for (size_t row = 0; row < copy.rows; row++) {
        std::memset(static_cast<std::byte*>(copy.to) + row * copy.to_pitch, 0xff, copy.width);
      }
    }
  }
  const cudaError_t result = submit(*stream, std::move(node));
  // As on the device, a copy to host memory that is not pinned returns only when it is done.
  if ((wait || (to_host && !pinned_to)) && !stream->capture) host_waits_for(*stream);
  return report(result);
}

cudaError_t fill(void* to, size_t pitch, int value, size_t width, size_t rows, cudaStream_t handle) {
  CUstream_st* stream = resolve(handle);
  if (!stream) return report(cudaErrorInvalidResourceHandle);
  if (width == 0 || rows == 0) return report(cudaSuccess);
  if (!on_device(to)) return report(cudaErrorInvalidValue, "fill of memory that is not the device's");
  return report(submit(*stream, {Node::Kind::fill, "fill", [=] {
                                   const OpenMemory open;
                                   for (size_t row = 0; row < rows; row++) {
                                     auto* begin = static_cast<std::byte*>(to) + row * pitch;
                                     if (!access_range(begin, width, true)) return;
                                     std::memset(begin, value, width);
                                   }
                                 }}));
}

cudaError_t forbidden_in_capture(const char* call) {
  return report(cudaErrorStreamCaptureUnsupported, duet::text(call, " during a stream capture"));
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const auto lock = lock_runtime();
  if (!pointer) return report(cudaErrorInvalidValue);
  if (capture_forbids_unsafe_calls()) return forbidden_in_capture("cudaMalloc");
  if (fault_code() != cudaSuccess) return fault_code();
  *pointer = bytes == 0 ? nullptr : allocate(current_device(), bytes);
  return report(bytes == 0 || *pointer ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* pointer) {
  const auto lock = lock_runtime();
  if (!pointer) return report(cudaSuccess);
  if (capture_forbids_unsafe_calls()) return forbidden_in_capture("cudaFree");
  const auto found = find_allocation(reinterpret_cast<uintptr_t>(pointer));
  if (found) host_waits_for_device(found->device);  // like the real one
  if (!release(pointer)) return report(cudaErrorInvalidValue, "cudaFree of a pointer that is not a live allocation");
  return report(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const auto lock = lock_runtime();
  if (!free || !total) return report(cudaErrorInvalidValue);
  *free = free_bytes(current_device());
  *total = arena.device_bytes;
  return report(cudaSuccess);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  const auto lock = lock_runtime();
  if (!pointer) return report(cudaErrorInvalidValue);
  if (capture_forbids_unsafe_calls()) return forbidden_in_capture("cudaHostAlloc");
  *pointer = bytes == 0 ? nullptr : allocate_pinned(bytes);
  return report(bytes == 0 || *pointer ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return cudaHostAlloc(pointer, bytes, 0);
}

cudaError_t cudaFreeHost(void* pointer) {
  const auto lock = lock_runtime();
  if (!pointer) return report(cudaSuccess);
  host_waits_for_device(-1);
  if (!release_pinned(pointer)) return report(cudaErrorInvalidValue, "cudaFreeHost of a pointer that is not pinned");
  return report(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const auto lock = lock_runtime();
  if (!attributes) return report(cudaErrorInvalidValue);
  *attributes = {};
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  attributes->type = cudaMemoryTypeUnregistered;
  if (is_allocated(address, 1)) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->device = device_of(address);
    attributes->devicePointer = const_cast<void*>(pointer);
  } else if (is_pinned(address, 1)) {
    attributes->type = cudaMemoryTypeHost;
    attributes->devicePointer = attributes->hostPointer = const_cast<void*>(pointer);
  }
  return report(cudaSuccess);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const auto lock = lock_runtime();
  if (capture_forbids_unsafe_calls()) return forbidden_in_capture("cudaMemcpy");
  return copy({to, bytes, from, bytes, bytes, 1}, kind, nullptr, true);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const auto lock = lock_runtime();
  return copy({to, bytes, from, bytes, bytes, 1}, kind, stream, false);
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  const auto lock = lock_runtime();
  return copy({to, to_pitch, from, from_pitch, width, rows}, kind, stream, false);
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows,
                         cudaMemcpyKind kind) {
  const auto lock = lock_runtime();
  if (capture_forbids_unsafe_calls()) return forbidden_in_capture("cudaMemcpy2D");
  return copy({to, to_pitch, from, from_pitch, width, rows}, kind, nullptr, true);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const auto lock = lock_runtime();
  return fill(to, bytes, value, bytes, 1, stream);
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  const auto lock = lock_runtime();
  if (capture_forbids_unsafe_calls()) return forbidden_in_capture("cudaMemset");
  return fill(to, bytes, value, bytes, 1, nullptr);
}

cudaError_t cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t rows, cudaStream_t stream) {
  const auto lock = lock_runtime();
  return fill(to, pitch, value, width, rows, stream);
}
}
