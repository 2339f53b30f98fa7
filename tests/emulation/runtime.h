// The inside of the emulated runtime: faults, streams and the order of operations.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace duet::emulation {

// One lock for everything: host threads take turns in the runtime.
std::unique_lock<std::recursive_mutex> lock_runtime();

// Keeps the first fault until take_error().
void set_fault(cudaError_t code, const std::string& message);
cudaError_t fault_code();
// Remembers an error for cudaGetLastError, and returns it.
cudaError_t report(cudaError_t code);
// Errors of calls, such as an invalid argument, with a reason that cudaGetErrorString then adds.
cudaError_t report(cudaError_t code, const std::string& reason);

// For each stream, by number: the newest operation known to be finished. Operations are numbered from 1 in the order of
// their execution.
class Clock {
 public:
  uint32_t operator[](size_t stream) const { return stream < newest_.size() ? newest_[stream] : 0; }
  void set(size_t stream, uint32_t operation) {
    if (stream >= newest_.size()) newest_.resize(stream + 1);
    newest_[stream] = std::max(newest_[stream], operation);
  }
  void merge(const Clock& other) {
    for (size_t i = 0; i < other.newest_.size(); i++) set(i, other.newest_[i]);
  }

 private:
  std::vector<uint32_t> newest_;
};

struct Capture;

// What a stream runs. The work checks its memory accesses by current_operation().
struct Node {
  enum class Kind { kernel, copy, fill, host, matmul, record, wait, graph };
  Kind kind;
  std::string name;
  std::function<void()> work;
  const void* host_source = nullptr;  // host memory that a copy reads when it runs
  size_t host_bytes = 0;
};

// One cudaEventRecord.
struct EventRecord {
  CUstream_st* stream = nullptr;
  bool done = false;
  Clock clock;
  std::chrono::steady_clock::time_point time;
};

struct CurrentOperation {
  std::string name;
  uint32_t id = 0;
  uint32_t floor = 0;  // all operations up to this one are ordered before
  size_t stream = 0;
  int device = 0;
  const Clock* clock = nullptr;
};
const CurrentOperation& current_operation();
// Whether the work that `earlier` did is finished when the current operation starts, whatever the timing.
bool is_ordered_before_current(uint32_t earlier);

// nullptr (the legacy default stream of the current device) becomes a real object; nullptr if the handle is unknown.
CUstream_st* resolve(cudaStream_t stream);
// Runs the node, or keeps it if work is deferred, or records it if the stream is capturing.
cudaError_t submit(CUstream_st& stream, Node node);
// Whether any capture is under way whose mode forbids calls such as cudaMalloc or a synchronisation.
bool capture_forbids_unsafe_calls();
// Ends every capture under way that `stream` belongs to with an error.
void invalidate_capture(CUstream_st& stream);
// The host waits for the stream; for all streams of a device, or of all devices with -1.
void host_waits_for(CUstream_st& stream);
void host_waits_for_device(int device);

// Whether work runs only when something waits for it, and whether some such work will read this host memory.
bool is_deferred();
bool is_pending_source(const void* begin, size_t bytes);

int current_device();

// Checks and marks an access by a copy, fill or library call. False after a fault.
bool access_range(const void* address, size_t bytes, bool write);

}  // namespace duet::emulation

struct CUstream_st {
  size_t number = 0;
  int device = 0;
  unsigned flags = 0;
  int priority = 0;
  bool legacy = false;
  duet::emulation::Clock clock;  // what is finished when the stream's next operation starts
  // Work that has not run yet, with what the host knew when it was given.
  std::deque<std::pair<duet::emulation::Node, duet::emulation::Clock>> pending;
  duet::emulation::Capture* capture = nullptr;
};

struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  std::shared_ptr<duet::emulation::EventRecord> record;  // the last one
  const duet::emulation::Capture* capture = nullptr;     // the capture that last recorded it
  uint64_t capture_id = 0;
  std::map<CUstream_st*, size_t> captured_after;  // per stream, the nodes that precede the record
};
