// Stream capture, and graphs that replay what was captured.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <set>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/streams.h"

struct CUgraphNode_st {
  duet::emulation::Node node;
  size_t branch = 0;   // 0 is the stream that began the capture
  uint64_t event = 0;  // for record and wait: which event, by a number within the graph
};

struct CUgraph_st {
  std::vector<std::shared_ptr<CUgraphNode_st>> nodes;
  size_t branches = 1;
  int device = 0;
};

struct CUgraphExec_st {
  std::shared_ptr<const CUgraph_st> graph;
};

namespace duet::emulation {

// For each branch, how many of its nodes are known to precede a point.
using Progress = std::map<CUstream_st*, size_t>;

struct Capture {
  uint64_t id = 0;
  cudaStreamCaptureMode mode{};
  bool invalid = false;
  std::vector<CUstream_st*> members;  // the origin first
  std::map<CUstream_st*, Progress> known;
  std::map<CUstream_st*, size_t> length;
  std::map<const CUevent_st*, uint64_t> events;
  uint64_t next_event = 1;
  std::unique_ptr<CUgraph_st> graph = std::make_unique<CUgraph_st>();

  void add(CUstream_st& stream, Node node, uint64_t event = 0) {
    const auto branch = std::find(members.begin(), members.end(), &stream) - members.begin();
    const bool works = node.kind != Node::Kind::record && node.kind != Node::Kind::wait;
    auto added = std::make_shared<CUgraphNode_st>();
    *added = {std::move(node), static_cast<size_t>(branch), event};
    graph->nodes.push_back(std::move(added));
    if (works) known[&stream][&stream] = ++length[&stream];
  }
};

namespace {

std::vector<std::unique_ptr<Capture>>& captures() {
  static auto& instance = *new std::vector<std::unique_ptr<Capture>>;
  return instance;
}

// Branches other than the first run on streams of their own, which start after the launching stream's work.
void replay(CUstream_st& stream, const CUgraph_st& graph) {
  static std::map<size_t, CUstream_st*>& spare = *new std::map<size_t, CUstream_st*>;
  std::vector<CUstream_st*> branches{&stream};
  for (size_t i = 1; i < graph.branches; i++) {
    CUstream_st*& branch = spare[static_cast<size_t>(stream.device) * 64 + i];
    if (!branch) branch = new_stream(stream.device, cudaStreamNonBlocking, false);
    branch->clock.merge(stream.clock);
    branches.push_back(branch);
  }
  std::map<uint64_t, Clock> events;
  for (const auto& node : graph.nodes) {
    CUstream_st& branch = *branches[node->branch];
    if (node->node.kind == Node::Kind::record) {
      events[node->event] = branch.clock;
    } else if (node->node.kind == Node::Kind::wait) {
      branch.clock.merge(events[node->event]);
    } else if (execute(branch, node->node) != cudaSuccess) {
      return;
    }
  }
  for (CUstream_st* branch : branches) stream.clock.merge(branch->clock);
}

void merge(Progress& into, const Progress& from) {
  for (const auto& [stream, count] : from) into[stream] = std::max(into[stream], count);
}

}  // namespace

bool any_capture() {
  return !captures().empty();
}

bool capture_forbids_unsafe_calls() {
  return std::any_of(captures().begin(), captures().end(),
                     [](const auto& capture) { return capture->mode != cudaStreamCaptureModeRelaxed; });
}

void invalidate_capture(CUstream_st& stream) {
  if (stream.capture) stream.capture->invalid = true;
}

cudaError_t submit(CUstream_st& stream, Node node) {
  if (fault_code() != cudaSuccess) return fault_code();
  if (stream.capture) {
    if (stream.capture->invalid) return report(cudaErrorStreamCaptureInvalidated);
    stream.capture->add(stream, std::move(node));
    return report(cudaSuccess);
  }
  if (stream.legacy) {
    for (CUstream_st* other : live_streams()) {
      if (other->capture && other->device == stream.device && !(other->flags & cudaStreamNonBlocking)) {
        invalidate_capture(*other);
        return report(cudaErrorStreamCaptureImplicit, text(node.name, " on the legacy default stream"));
      }
    }
  }
  return enqueue(stream, std::move(node));
}

cudaError_t capture_record(CUstream_st& stream, CUevent_st& event) {
  Capture& capture = *stream.capture;
  const uint64_t number = capture.events[&event] = capture.next_event++;
  capture.add(stream, {Node::Kind::record, "event record", [] {}}, number);
  event.capture = &capture;
  event.capture_id = capture.id;
  event.captured_after = capture.known[&stream];
  return report(cudaSuccess);
}

cudaError_t capture_wait(CUstream_st& stream, CUevent_st& event) {
  if (!event.capture) {
    invalidate_capture(stream);
    return report(cudaErrorStreamCaptureIsolation,
                  "a capturing stream waits for an event recorded outside the capture");
  }
  const auto found = std::find_if(captures().begin(), captures().end(),
                                  [&](const auto& capture) { return capture->id == event.capture_id; });
  if (found == captures().end())
    return report(cudaErrorCapturedEvent, "the event was recorded in a capture that ended");
  Capture& capture = **found;
  if (stream.capture && stream.capture != &capture) return report(cudaErrorStreamCaptureMerge);
  if (!stream.capture) {
    if (stream.legacy) return report(cudaErrorStreamCaptureImplicit, "the legacy default stream cannot be captured");
    stream.capture = &capture;
    if (std::find(capture.members.begin(), capture.members.end(), &stream) == capture.members.end()) {
      capture.members.push_back(&stream);
      capture.graph->branches++;
    }
  }
  capture.add(stream, {Node::Kind::wait, "event wait", [] {}}, capture.events[&event]);
  merge(capture.known[&stream], event.captured_after);
  return report(cudaSuccess);
}

}  // namespace duet::emulation

using namespace duet::emulation;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const auto lock = lock_runtime();
  static uint64_t next_id = 1;
  CUstream_st* stream = resolve(handle);
  if (!stream) return report(cudaErrorInvalidResourceHandle);
  if (stream->legacy) {
    return report(cudaErrorStreamCaptureUnsupported, "the legacy default stream cannot be captured");
  }
  if (stream->capture) return report(cudaErrorIllegalState, "the stream is capturing already");
  captures().push_back(std::make_unique<Capture>());
  Capture& capture = *captures().back();
  capture.id = next_id++;
  capture.mode = mode;
  capture.members = {stream};
  capture.graph->device = stream->device;
  stream->capture = &capture;
  return report(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const auto lock = lock_runtime();
  CUstream_st* stream = resolve(handle);
  if (!stream || !graph) return report(cudaErrorInvalidValue);
  *graph = nullptr;
  if (!stream->capture) return report(cudaErrorIllegalState, "the stream is not capturing");
  Capture& capture = *stream->capture;
  if (capture.members[0] != stream) return report(cudaErrorStreamCaptureUnmatched);
  cudaError_t result = capture.invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
  for (CUstream_st* member : capture.members) {
    // All work of every branch must precede the end.
    if (capture.known[stream][member] < capture.length[member] && result == cudaSuccess) {
      result = cudaErrorStreamCaptureUnjoined;
    }
    const auto& live = live_streams();
    if (std::find(live.begin(), live.end(), member) != live.end()) member->capture = nullptr;
  }
  if (result == cudaSuccess) *graph = capture.graph.release();
  std::erase_if(captures(), [&](const auto& other) { return other.get() == &capture; });
  return report(result);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const auto lock = lock_runtime();
  CUstream_st* stream = resolve(handle);
  if (!stream || !status) return report(cudaErrorInvalidValue);
  *status = !stream->capture           ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return report(cudaSuccess);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return report(mode ? cudaErrorNotSupported : cudaErrorInvalidValue);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const auto lock = lock_runtime();
  if (!graph || !count) return report(cudaErrorInvalidValue);
  // Records and waits become edges of the real graph.
  std::vector<CUgraphNode_st*> work;
  for (const auto& node : graph->nodes) {
    if (node->node.kind != Node::Kind::record && node->node.kind != Node::Kind::wait) work.push_back(node.get());
  }
  if (!nodes) {
    *count = work.size();
    return report(cudaSuccess);
  }
  for (size_t i = 0; i < *count; i++) nodes[i] = i < work.size() ? work[i] : nullptr;
  *count = std::min(*count, work.size());
  return report(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const auto lock = lock_runtime();
  if (!exec || !graph) return report(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{std::make_shared<const CUgraph_st>(*graph)};
  return report(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const auto lock = lock_runtime();
  if (!graph) return report(cudaErrorInvalidValue);
  delete graph;
  return report(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const auto lock = lock_runtime();
  if (!exec) return report(cudaErrorInvalidValue);
  delete exec;
  return report(cudaSuccess);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo* info) {
  const auto lock = lock_runtime();
  if (!exec || !graph || !info) return report(cudaErrorInvalidValue);
  *info = {};
  const auto& before = exec->graph->nodes;
  const auto& after = graph->nodes;
  bool same = before.size() == after.size() && exec->graph->branches == graph->branches;
  for (size_t i = 0; same && i < before.size(); i++) {
    same = before[i]->node.kind == after[i]->node.kind && before[i]->branch == after[i]->branch &&
           before[i]->event == after[i]->event;
  }
  if (!same) {
    info->result = cudaGraphExecUpdateErrorTopologyChanged;
    return report(cudaErrorGraphExecUpdateFailure);
  }
  exec->graph = std::make_shared<const CUgraph_st>(*graph);
  info->result = cudaGraphExecUpdateSuccess;
  return report(cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
  const auto lock = lock_runtime();
  return report(exec && resolve(stream) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  const auto lock = lock_runtime();
  CUstream_st* stream = resolve(handle);
  if (!exec || !stream) return report(cudaErrorInvalidValue);
  if (stream->device != exec->graph->device) {
    return report(cudaErrorInvalidResourceHandle, "the graph was captured on another device");
  }
  if (stream->capture) return report(cudaErrorNotSupported, "child graphs are not emulated");
  const auto& nodes = exec->graph->nodes;
  const bool waits =
      std::any_of(nodes.begin(), nodes.end(), [](const auto& node) { return node->node.issue != nullptr; });
  if (waits) {
    // Each launch takes the next place among the communicator's collectives, and the stream waits there.
    if (exec->graph->branches > 1) return report(cudaErrorNotSupported, "collectives in a graph of several branches");
    for (const auto& node : nodes)
      if (const cudaError_t error = enqueue(*stream, node->node); error != cudaSuccess) return report(error);
    return report(cudaSuccess);
  }
  return report(
      enqueue(*stream, {Node::Kind::graph, "graph", [stream, graph = exec->graph] { replay(*stream, *graph); }}));
}
}
