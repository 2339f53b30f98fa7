#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "duet/core/backend.h"

namespace duet::cuda {

// What a kernel found wrong with its input. It cannot throw, so it leaves the first finding here, and the next wait for
// the device throws it.
enum class Finding : int { none, id, label, mask };
struct Fault {
  int finding;  // Finding
  int padding;
  long long value, position, limit;
};

// Work on the device that other devices take part in: it may fail, or never end, while the host waits for it.
class Watch {
 public:
  virtual ~Watch() = default;
  // Throws Error when there is nothing more to wait for. `waited` is in seconds.
  virtual void look(double waited) = 0;
};

// One per device and process, made at first use. All kernels of a device run on its one compute stream, which is what
// makes the caching allocator's reuse of blocks safe.
struct Context {
  // A timed stretch of the stream's work.
  struct Sample {
    const char *op, *kernel;
    cudaEvent_t begin, end;
  };
  int index;
  bool profiling = false;
  cudaEvent_t profile_begin = nullptr;
  std::vector<Sample> samples;
  int multiprocessors;
  cudaStream_t stream;
  cublasLtHandle_t blas;
  void* workspace;  // scratch of cuBLASLt
  size_t workspace_bytes;
  uint64_t* salt;     // on the device: of the step that a graph repeats
  Fault* fault;       // on the device
  Fault* fault_host;  // pinned
  std::mutex watches_mutex;
  std::vector<Watch*> watches;
};

// Also makes the device the thread's current one. Throws Error when it cannot be used.
Context& context_of(CudaContext which);

// Measures what is put on the stream while it lives, when the context is profiling.
class Timed {
 public:
  Timed(Context& context, const char* kernel);
  ~Timed();
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Context& context_;
  bool active_;
};

// While it lives, this thread's tensors on the device come from `pool`.
class UsePool {
 public:
  UsePool(int index, CachingAllocator& pool);
  ~UsePool();
  UsePool(const UsePool&) = delete;
  UsePool& operator=(const UsePool&) = delete;
};
// Makes a device the thread's current one while it lives.
class UseDevice {
 public:
  explicit UseDevice(int index) {
    usable_ = cudaGetDevice(&before_) == cudaSuccess && cudaSetDevice(index) == cudaSuccess;
  }
  ~UseDevice() {
    if (usable_) cudaSetDevice(before_);
  }
  UseDevice(const UseDevice&) = delete;
  UseDevice& operator=(const UseDevice&) = delete;
  bool usable() const { return usable_; }

 private:
  int before_ = 0;
  bool usable_ = false;
};
bool recording();  // whether this thread is recording a graph
// The graph that this thread is recording keeps this until it is destroyed itself.
void keep_with_recording(std::shared_ptr<void> what);
MemorySource device_memory();

void add_watch(Context& context, Watch& watch);
void remove_watch(Context& context, Watch& watch);
// To be called before the host waits for the stream, or for an event: waits itself while there are watches, and throws
// what they do.
void wait_for_others(Context& context, cudaEvent_t event = nullptr);

// Waits for the stream and throws what kernels found.
void finish(Context& context);

}  // namespace duet::cuda
