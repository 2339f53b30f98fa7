// The inside of the emulated runtime: faults, streams and the order of operations.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
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

// One lock for everything: host threads take turns in the runtime. A thread that waits for another one's work lets go
// of it, however many calls deep it took it.
class RuntimeMutex {
 public:
  void lock() {
    mutex_.lock();
    depth_++;
  }
  void unlock() {
    depth_--;
    mutex_.unlock();
  }
  // False when nothing changed until then.
  bool wait_for_change(std::chrono::steady_clock::time_point until);
  void changed() { change_.notify_all(); }

 private:
  std::recursive_mutex mutex_;
  int depth_ = 0;  // of the thread that has the lock
  std::condition_variable_any change_;
};
RuntimeMutex& runtime_mutex();
std::unique_lock<RuntimeMutex> lock_runtime();

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

// What a stream's work may have to wait for: an event, or the other ranks of a collective.
class Obstacle {
 public:
  virtual ~Obstacle() = default;
  virtual bool cleared() = 0;  // after running what other streams can run now
  virtual std::string description() const = 0;
};

// What a stream runs. The work checks its memory accesses by current_operation().
struct Node {
  enum class Kind { kernel, copy, fill, host, matmul, collective, record, wait, graph };
  Kind kind;
  std::string name;
  std::function<void()> work;
  const void* host_source = nullptr;  // host memory that a copy reads when it runs
  size_t host_bytes = 0;
  std::shared_ptr<Obstacle> obstacle = nullptr;
  std::function<void(CUstream_st&, Node&)> issue = nullptr;  // called whenever it is given to a stream to be run
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
// The host waits for the stream; for all streams of a device. With -1 also for what other devices can do by themselves.
void host_waits_for(CUstream_st& stream);
void host_waits_for_device(int device);

// Whether work that is given to the stream now runs later, and whether some such work will read this host memory.
bool runs_later(const CUstream_st& stream);
// Runs what the stream can run without waiting for other host threads. False when something is left.
bool run_without_waiting(CUstream_st& stream);
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
  bool advancing = false;  // its first pending node asks whether it can run
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
