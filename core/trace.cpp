#include "duet/core/trace.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/core/thread_name.h"

namespace duet {

struct OpenEvent {
  TraceEvent event;  // with times of the clock
  OpenEvent* parent;
  bool whole_bytes = false;  // operands do not add to them
};

namespace {

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The trace being recorded. Memory of its own comes from the system, so that what an allocator counts stays as it is.
struct Recording {
  std::mutex mutex;
  Trace trace;
  int64_t began = 0;
  int64_t number = 0;  // of the recording, so that threads know whether they were counted
};

Recording& recording() {
  static auto* the_recording = new Recording;  // allocators outlive static objects
  return *the_recording;
}

struct ThisThread {
  OpenEvent* innermost = nullptr;
  int64_t recording = 0;
  int index = 0;
};
thread_local ThisThread this_thread;

// The mutex is held.
int thread_index(Recording& r) {
  if (this_thread.recording != r.number) {
    this_thread.recording = r.number;
    this_thread.index = static_cast<int>(r.trace.threads.size());
    const std::string unnamed = ::gettid() == ::getpid() ? "main" : text("thread ", ::gettid());
    r.trace.threads.push_back(thread_name().empty() ? unnamed : thread_name());
  }
  return this_thread.index;
}

}  // namespace

OpenEvent* OpScope::begin(const char* op, ScopeKind kind) {
  auto* open = new OpenEvent{{}, this_thread.innermost};
  this_thread.innermost = open;
  open->event.name = op;
  open->event.kind = kind;
  open->event.begin = now();
  return open;
}

void OpScope::end(OpenEvent* open) {
  TraceEvent& event = open->event;
  event.end = now();
  this_thread.innermost = open->parent;
  if (open->parent != nullptr) open->parent->event.inside += event.end - event.begin;
  {
    Recording& r = recording();
    const std::lock_guard lock(r.mutex);
    if (tracing() && event.begin >= r.began) {  // otherwise its trace has ended
      event.begin -= r.began;
      event.end -= r.began;
      event.thread = thread_index(r);
      r.trace.events.push_back(std::move(event));
    }
  }
  delete open;
}

void OpScope::add(int64_t flops, int64_t bytes) {
  if (this_thread.innermost == nullptr) return;
  this_thread.innermost->event.flops += flops;
  this_thread.innermost->event.bytes += bytes;
}

void OpScope::set_bytes(int64_t bytes) {
  if (this_thread.innermost == nullptr) return;
  this_thread.innermost->event.bytes = bytes;
  this_thread.innermost->whole_bytes = true;
}

void trace_operands(const char* op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs) {
  OpenEvent* open = this_thread.innermost;
  if (open == nullptr || std::strcmp(open->event.name, op) != 0) return;
  const auto among = [](const Tensor& wanted, const std::vector<Tensor>& tensors) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const Tensor& t) { return t.raw() == wanted.raw(); });
  };
  const auto handed_on = [&](const Tensor& t) { return !t.defined() || among(t, inputs); };
  // An op that makes nothing new need not look at what it gets.
  const bool idle = std::all_of(outputs.begin(), outputs.end(), handed_on);
  std::vector<Tensor> counted;
  const auto count = [&](const Tensor& t) {
    if (open->whole_bytes || among(t, counted)) return;
    counted.push_back(t);
    open->event.bytes += static_cast<int64_t>(t.bytes());
  };
  for (const Tensor& t : inputs) {
    if (!t.defined()) continue;
    open->event.inputs.push_back({t.shape(), t.dtype()});
    if (!idle) count(t);
  }
  for (const Tensor& t : outputs) {
    if (!t.defined()) continue;
    open->event.outputs.push_back({t.shape(), t.dtype()});
    if (!handed_on(t)) count(t);
  }
}

void trace_memory(const char* allocator, int index, int64_t bytes) {
  Recording& r = recording();
  const std::lock_guard lock(r.mutex);
  if (tracing()) r.trace.memory.push_back({allocator, index, now() - r.began, bytes});
}

void start_trace(const Device& device) {
  check(!tracing(), "trace", "another trace is being recorded");
  dispatch_device(device, [](auto context) {
    if constexpr (std::is_same_v<decltype(context), CudaContext>) start_profile(context);
  });
  Recording& r = recording();
  const std::lock_guard lock(r.mutex);
  r.trace = {};
  r.trace.device = device;
  ++r.number;
  thread_index(r);  // the first
  r.began = now();
  trace_recording = true;
}

Trace stop_trace() {
  check(tracing(), "trace", "no trace is being recorded");
  Trace trace;
  {
    Recording& r = recording();
    const std::lock_guard lock(r.mutex);
    trace_recording = false;
    trace = std::move(r.trace);
  }
  dispatch_device(trace.device, [&](auto context) {
    if constexpr (std::is_same_v<decltype(context), CudaContext>) trace.kernels = stop_profile(context);
  });
  return trace;
}

TraceFile::TraceFile(std::string path, const Device& device) : path_(std::move(path)), device_(device) {
  write_trace({}, path_);
}

TraceFile::~TraceFile() {
  try {
    finish();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "warning: the trace was not written: %s\n", e.what());
  }
}

void TraceFile::start() {
  if (state_ != waiting) return;
  start_trace(device_);
  state_ = recording;
}

void TraceFile::finish() {
  if (state_ != recording) return;
  state_ = done;
  write_trace(stop_trace(), path_);
}

}  // namespace duet
