#pragma once

#include <memory>
#include <string>
#include <vector>

#include "duet/core/backend.h"
#include "duet/core/op_scope.h"
#include "duet/core/tensor.h"

// Records what OpScopes bracket, with the work that ops note, for a profile by op or a time line to look at.
namespace duet {

struct TensorKind {
  Shape shape;
  DType dtype;
};

// A scope that began and ended while the trace was recorded. Times are nanoseconds since the trace began.
struct TraceEvent {
  const char* name = "";
  ScopeKind kind = ScopeKind::phase;
  int thread = 0;  // index of Trace::threads
  int64_t begin = 0, end = 0;
  int64_t inside = 0;  // time of the scopes directly inside this one
  int64_t flops = 0;   // of matrix products, those of scopes inside not counted
  int64_t bytes = 0;   // that have to be read and written at least once, likewise
  std::vector<TensorKind> inputs, outputs;
};

// The bytes that an allocator has handed out, from this moment on.
struct MemorySample {
  const char* allocator;
  int index;  // of the device
  int64_t time, bytes;
};

struct Trace {
  Device device;
  std::vector<TraceEvent> events;  // in the order of their ends
  std::vector<MemorySample> memory;
  std::vector<std::string> threads;
  std::vector<KernelSpan> kernels;  // of the device
};

// Records everything until stop_trace; one trace at a time. On a GPU also its kernels, but those of recorded graphs.
void start_trace(const Device& device);
Trace stop_trace();

// In Chrome's trace event format, which Perfetto (ui.perfetto.dev) and chrome://tracing show: complete events by
// thread, the device's kernels as a second process, memory as counters.
void write_trace(const Trace& trace, const std::string& path);

// What autograd tells of `op` if that is the innermost scope. An output in an input's memory is handed on, not
// written, and where all are, nothing is read either.
void trace_operands(const char* op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs);
// What an allocator tells.
void trace_memory(const char* allocator, int index, int64_t bytes);

// A trace that ends in a file. Recorded once: a second start does nothing.
class TraceFile {
 public:
  // Writes a trace without events. Throws Error naming the file and the reason when that cannot be done.
  TraceFile(std::string path, const Device& device);
  ~TraceFile();  // finishes what was started, for ends by exception; a failure is a warning
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  void start();
  void finish();

 private:
  std::string path_;
  Device device_;
  enum { waiting, recording, done } state_ = waiting;
};

}  // namespace duet
