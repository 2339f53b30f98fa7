// Streams, events and graphs. Work runs as soon as it is given; what the streams and events guarantee about its order
// is kept in clocks, so that work which another machine could run in another order is found.
#include "duet/tests/emulation/streams.h"

#include <algorithm>
#include <cstdlib>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/emulation.h"
#include "duet/tests/emulation/scheduler.h"

namespace duet::emulation {

namespace {

struct Streams {
  std::vector<CUstream_st*> live;
  std::map<int, CUstream_st*> defaults;  // the legacy stream of each device
  size_t next_number = 0;
  std::vector<uint16_t> stream_of_operation{0};
  std::vector<uint32_t> last_operation;  // by stream number
  Clock host;                            // what the host knows to be finished
  CurrentOperation current;
  double rank_timeout =
      std::getenv("DUET_EMULATED_RANK_TIMEOUT") ? std::atof(std::getenv("DUET_EMULATED_RANK_TIMEOUT")) : 60;
  bool deferred = std::getenv("DUET_EMULATED_DEFER") && std::string(std::getenv("DUET_EMULATED_DEFER")) != "0";
};

Streams& streams() {
  static Streams& instance = *new Streams;
  return instance;
}

// The legacy default stream waits for all blocking streams of its device, and they for it.
void join_legacy(CUstream_st& stream) {
  for (CUstream_st* other : streams().live) {
    if (other == &stream || other->device != stream.device || (other->flags & cudaStreamNonBlocking)) continue;
    if (stream.legacy || (other->legacy && !(stream.flags & cudaStreamNonBlocking))) stream.clock.merge(other->clock);
  }
}

}  // namespace

const CurrentOperation& current_operation() {
  return streams().current;
}

bool is_ordered_before_current(uint32_t earlier) {
  const Streams& all = streams();
  const size_t stream = all.stream_of_operation.at(earlier);
  return (*all.current.clock)[stream] >= earlier;
}

CUstream_st* new_stream(int device, unsigned flags, bool legacy) {
  auto* stream = new CUstream_st;
  stream->number = streams().next_number++;
  stream->device = device;
  stream->flags = flags;
  stream->legacy = legacy;
  streams().live.push_back(stream);
  streams().last_operation.push_back(0);
  check(streams().next_number < 65536, "emulation", "more than 65535 streams were created");
  return stream;
}

void delete_stream(CUstream_st* stream) {
  std::erase(streams().live, stream);
  delete stream;
}

CUstream_st* resolve(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread) {
    CUstream_st*& legacy = streams().defaults[current_device()];
    if (!legacy) legacy = new_stream(current_device(), 0, true);
    return legacy;
  }
  const auto& live = streams().live;
  return std::find(live.begin(), live.end(), stream) == live.end() ? nullptr : stream;
}

const std::vector<CUstream_st*>& live_streams() {
  return streams().live;
}

cudaError_t execute(CUstream_st& stream, const Node& node) {
  if (fault_code() != cudaSuccess) return fault_code();
  Streams& all = streams();
  join_legacy(stream);
  CurrentOperation& current = all.current;
  current.id++;
  check(current.id < (1u << 28) - 1, "emulation", "more operations than the checks can number");
  all.stream_of_operation.push_back(static_cast<uint16_t>(stream.number));
  current.name = node.name;
  current.stream = stream.number;
  current.device = stream.device;
  current.clock = &stream.clock;
  current.floor = current.id - 1;
  for (size_t i = 0; i < all.last_operation.size(); i++) {
    if (i != stream.number && all.last_operation[i] > stream.clock[i]) {
      current.floor = std::min(current.floor, stream.clock[i]);
    }
  }
  all.last_operation[stream.number] = current.id;
  open_arena();
  block_state.operation = current.id;
  block_state.floor = current.floor;
  block_state.block = 0;
  block_state.tag = uint64_t{current.id} << 36;
  block_state.device_base = arena.base + static_cast<size_t>(stream.device) * arena.device_bytes;
  block_state.any_device = false;
  node.work();
  stream.clock.set(stream.number, current.id);
  return fault_code();
}

namespace {

// Records, waits and graphs are no operations of their own. A collective is one for each of its steps.
bool is_operation(const Node& node) {
  return node.kind != Node::Kind::record && node.kind != Node::Kind::wait && node.kind != Node::Kind::graph &&
         node.kind != Node::Kind::collective;
}

cudaError_t run_node(CUstream_st& stream, const Node& node) {
  if (is_operation(node)) return execute(stream, node);
  node.work();
  return fault_code();
}

// Runs the stream's first pending node, unless it has to wait for other streams.
bool run_next_pending(CUstream_st& stream) {
  if (stream.advancing) return false;  // streams that wait for each other
  stream.clock.merge(stream.pending.front().second);
  if (const auto obstacle = stream.pending.front().first.obstacle; obstacle && fault_code() == cudaSuccess) {
    stream.advancing = true;
    const bool cleared = obstacle->cleared();
    stream.advancing = false;
    if (!cleared) return false;
  }
  const Node node = std::move(stream.pending.front().first);
  stream.pending.pop_front();
  run_node(stream, node);
  return true;
}

// What keeps the stream from going on.
std::string reason(const CUstream_st& stream) {
  const bool waits = !stream.pending.empty() && stream.pending.front().first.obstacle;
  return waits ? stream.pending.front().first.obstacle->description() : "streams that wait for each other";
}

// Until `done`, the thread waits for what other threads give to their streams.
template <class Done>
void run_until(CUstream_st& stream, const Done& done) {
  const auto deadline = [] {
    return std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                                  std::chrono::duration<double>(rank_timeout()));
  };
  for (auto end = deadline(); !done();) {
    if (run_next_pending(stream)) {
      end = deadline();
    } else if (!runtime_mutex().wait_for_change(end) && std::chrono::steady_clock::now() >= end) {
      set_fault(cudaErrorLaunchTimeout,
                text("after ", rank_timeout(), " s the device still waits for ", reason(stream)));
    }
  }
}

void run_pending(CUstream_st& stream) {
  run_until(stream, [&] { return stream.pending.empty(); });
}

void run_until(const std::shared_ptr<EventRecord>& record) {
  if (!record->done) run_until(*record->stream, [&] { return record->done; });
}

class Event : public Obstacle {
 public:
  explicit Event(std::shared_ptr<EventRecord> record) : record_(std::move(record)) {}
  bool cleared() override {
    while (!record_->done)
      if (!run_next_pending(*record_->stream)) return false;
    return true;
  }
  std::string description() const override { return record_->done ? "nothing" : reason(*record_->stream); }

 private:
  std::shared_ptr<EventRecord> record_;
};

}  // namespace

bool run_without_waiting(CUstream_st& stream) {
  while (!stream.pending.empty())
    if (!run_next_pending(stream)) return false;
  return true;
}

cudaError_t enqueue(CUstream_st& stream, Node node) {
  if (node.issue) node.issue(stream, node);
  if (!streams().deferred && stream.pending.empty() && !node.obstacle) {
    stream.clock.merge(streams().host);
    return run_node(stream, node);
  }
  // The legacy stream and the blocking ones wait for each other.
  const auto live = streams().live;  // other threads may make more while this one waits
  for (CUstream_st* other : live) {
    if (resolve(other) == nullptr) continue;
    if (other == &stream || other->device != stream.device || !(other->legacy || stream.legacy)) continue;
    if (!((other->flags | stream.flags) & cudaStreamNonBlocking)) run_pending(*other);
  }
  stream.pending.emplace_back(std::move(node), streams().host);
  if (!streams().deferred) run_without_waiting(stream);
  return fault_code();
}

void run_all_pending() {
  const auto all = streams().live;  // other threads may make more while this one waits
  for (CUstream_st* stream : all)
    if (resolve(stream) != nullptr) run_pending(*stream);
}

void host_waits_for(CUstream_st& stream) {
  run_pending(stream);
  streams().host.merge(stream.clock);
}

void host_knows(const Clock& clock) {
  streams().host.merge(clock);
}

void host_waits_for_device(int device) {
  const auto all = streams().live;
  for (CUstream_st* stream : all) {
    if (resolve(stream) == nullptr) continue;
    // Another device may be in a collective that this thread has yet to join.
    if (stream->device == (device < 0 ? current_device() : device) || (device < 0 && run_without_waiting(*stream)))
      host_waits_for(*stream);
  }
}

void set_rank_timeout(double seconds) {
  const auto lock = lock_runtime();
  streams().rank_timeout = seconds;
}
double rank_timeout() {
  return streams().rank_timeout;
}

bool runs_later(const CUstream_st& stream) {
  return streams().deferred || !stream.pending.empty();
}

void set_deferred(bool on) {
  const auto lock = lock_runtime();
  run_all_pending();
  streams().deferred = on;
}

bool is_pending_source(const void* begin, size_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(begin);
  for (const CUstream_st* stream : streams().live) {
    for (const auto& [node, host] : stream->pending) {
      const auto source = reinterpret_cast<uintptr_t>(node.host_source);
      if (node.host_bytes > 0 && source < first + bytes && first < source + node.host_bytes) return true;
    }
  }
  return false;
}

}  // namespace duet::emulation

using namespace duet::emulation;

namespace {

CUevent_st* new_event(unsigned flags) {
  auto* event = new CUevent_st;
  event->device = current_device();
  event->flags = flags;
  return event;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  const auto lock = lock_runtime();
  if (!stream || flags > 1) return report(cudaErrorInvalidValue);
  *stream = new_stream(current_device(), flags, false);
  (*stream)->priority = priority;
  return report(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const auto lock = lock_runtime();
  CUstream_st* stream = handle ? resolve(handle) : nullptr;
  if (!stream || stream->legacy) return report(cudaErrorInvalidResourceHandle);
  if (stream->capture) invalidate_capture(*stream);
  run_pending(*stream);
  delete_stream(stream);
  return report(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const auto lock = lock_runtime();
  CUstream_st* stream = resolve(handle);
  if (!stream) return report(cudaErrorInvalidResourceHandle);
  if (stream->capture || capture_forbids_unsafe_calls()) {
    invalidate_capture(*stream);
    return report(cudaErrorStreamCaptureUnsupported, "cudaStreamSynchronize");
  }
  host_waits_for(*stream);
  return report(cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const auto lock = lock_runtime();
  CUstream_st* stream = resolve(handle);
  if (stream && !stream->capture && !stream->pending.empty()) {
    run_next_pending(*stream);
    return report(cudaErrorNotReady);
  }
  return cudaStreamSynchronize(handle);
}

cudaError_t cudaDeviceSynchronize() {
  const auto lock = lock_runtime();
  if (any_capture()) {
    for (CUstream_st* stream : live_streams()) invalidate_capture(*stream);
    return report(cudaErrorStreamCaptureUnsupported, "cudaDeviceSynchronize");
  }
  host_waits_for_device(current_device());
  return report(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const auto lock = lock_runtime();
  if (!event || flags > 7) return report(cudaErrorInvalidValue);
  *event = new_event(flags);
  return report(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const auto lock = lock_runtime();
  if (!event) return report(cudaErrorInvalidResourceHandle);
  delete event;
  return report(cudaSuccess);
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned) {
  const auto lock = lock_runtime();
  CUstream_st* stream = resolve(handle);
  if (!event || !stream) return report(cudaErrorInvalidResourceHandle);
  if (event->device != stream->device) {
    return report(cudaErrorInvalidResourceHandle, "the event and the stream belong to different devices");
  }
  if (stream->capture) return capture_record(*stream, *event);
  event->capture = nullptr;
  event->record = std::make_shared<EventRecord>();
  event->record->stream = stream;
  return report(enqueue(*stream, {Node::Kind::record, "event record", [record = event->record] {
                                    record->clock = record->stream->clock;
                                    record->time = std::chrono::steady_clock::now();
                                    record->done = true;
                                  }}));
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, 0);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const auto lock = lock_runtime();
  CUstream_st* stream = resolve(handle);
  if (!event || !stream) return report(cudaErrorInvalidResourceHandle);
  if (event->capture || stream->capture) return capture_wait(*stream, *event);
  if (!event->record) return report(cudaSuccess);
  Node node{Node::Kind::wait, "event wait", [stream, record = event->record] { stream->clock.merge(record->clock); }};
  node.obstacle = std::make_shared<Event>(event->record);
  return report(enqueue(*stream, std::move(node)));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const auto lock = lock_runtime();
  if (!event) return report(cudaErrorInvalidResourceHandle);
  if (event->capture) return report(cudaErrorCapturedEvent);
  if (capture_forbids_unsafe_calls()) return report(cudaErrorStreamCaptureUnsupported, "cudaEventSynchronize");
  if (const auto record = event->record) {
    run_until(record);
    host_knows(record->clock);
  }
  return report(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const auto lock = lock_runtime();
  if (event && !event->capture && event->record && !event->record->done) {
    run_next_pending(*event->record->stream);
    return report(cudaErrorNotReady);
  }
  return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const auto lock = lock_runtime();
  if (!milliseconds) return report(cudaErrorInvalidValue);
  if (!start || !end || !start->record || !end->record || ((start->flags | end->flags) & cudaEventDisableTiming)) {
    return report(cudaErrorInvalidResourceHandle, "an event was not recorded, or keeps no time");
  }
  if (start->capture || end->capture) return report(cudaErrorCapturedEvent);
  if (!start->record->done || !end->record->done) return report(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->record->time - start->record->time).count();
  return report(cudaSuccess);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  const auto lock = lock_runtime();
  CUstream_st* stream = resolve(handle);
  if (!stream) return report(cudaErrorInvalidResourceHandle);
  if (!function) return report(cudaErrorInvalidValue);
  return submit(*stream, {Node::Kind::host, "host function", [=] { function(data); }});
}
}
