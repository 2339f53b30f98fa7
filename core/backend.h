#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "duet/core/allocator.h"
#include "duet/core/device.h"
#include "duet/core/dtype.h"

// What a backend provides to core: memory, and moving and converting elements.
namespace duet {

CachingAllocator& allocator(CpuContext);
CachingAllocator& allocator(CudaContext);  // blocks are reused in the order of the device's compute stream

// Copies between any two places of which at least one is on the context's device. Copies to the CPU are complete on
// return; a copy from the CPU may be under way, but `from` can be changed.
void copy_bytes(CudaContext context, void* to, const void* from, size_t bytes, bool to_host, bool from_host);
// Writes `count` words, at most eight, which travel with the call.
void write_words(CpuContext, uint64_t* to, const uint64_t* words, int count);
void write_words(CudaContext, uint64_t* to, const uint64_t* words, int count);

// Memory for recorded work. Graphs that never run side by side share a pool: each uses again what the others left.
std::shared_ptr<CachingAllocator> make_graph_pool(CudaContext context);

// Work of the device that is repeated without the host code that asked for it. The work's tensors come from the pool
// and keep their memory as long as somebody holds them, so that what is in them after `launch` can be read.
class DeviceGraph {
 public:
  // Calls `work`, which must not wait for the device or read from it, and records what it asks for instead of doing it.
  static std::unique_ptr<DeviceGraph> record(CudaContext context, std::shared_ptr<CachingAllocator> pool,
                                             const std::function<void()>& work);
  virtual ~DeviceGraph() = default;
  virtual void launch() = 0;
};
// The salt for keys that are `salted`.
void set_step_salt(CudaContext context, uint64_t salt);

// Two lanes for copies to the device that run beside its kernels, for input that is used in turns: `from` may be
// changed on return. A copy waits for the kernels that were asked for before the last upload_used of its lane; kernels
// asked for after upload_await wait for the copies.
constexpr int upload_lanes = 2;
void upload_begin(CudaContext context, int lane, void* to, const void* from, size_t bytes);
void upload_await(CudaContext context, int lane);
void upload_used(CudaContext context, int lane);

void zero_bytes(CpuContext, void* to, size_t bytes);
void zero_bytes(CudaContext, void* to, size_t bytes);

template <class T>
void fill_elements(CpuContext, T* to, int64_t count, T value);
template <class T>
void fill_elements(CudaContext, T* to, int64_t count, T value);
void count_elements(CpuContext, int64_t* to, int64_t count);  // to[i] = i
void count_elements(CudaContext, int64_t* to, int64_t count);
template <class To, class From>
void convert_elements(CpuContext, const From* from, To* to, int64_t count);
template <class To, class From>
void convert_elements(CudaContext, const From* from, To* to, int64_t count);

void synchronize(CudaContext context);
// What the driver says of a device.
struct DeviceInformation {
  std::string name;        // "NVIDIA H100 80GB HBM3"
  std::string capability;  // "9.0"
  int multiprocessors = 0;
  int64_t memory_bytes = 0, free_bytes = 0;
  std::string versions;  // of driver and libraries
};
DeviceInformation describe(CudaContext context);
// How many devices there are; 0 also where there is no driver, and `why` then says so.
int device_count(CudaContext, std::string& why);

// A kernel or library call on the device, and the op that asked for it.
struct KernelSpan {
  const char *op, *kernel;
  double begin, end;  // seconds since start_profile
};
void start_profile(CudaContext context);  // waits for the device, and forgets what was measured before
std::vector<KernelSpan> stop_profile(CudaContext context);

// Throws Error saying what is missing (driver, device, or index) unless the device can be used.
void require(CudaContext context);

}  // namespace duet
