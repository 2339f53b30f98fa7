// Between streams.cpp and graphs.cpp.
#pragma once

#include "duet/tests/emulation/runtime.h"

namespace duet::emulation {

CUstream_st* new_stream(int device, unsigned flags, bool legacy);
void delete_stream(CUstream_st* stream);
const std::vector<CUstream_st*>& live_streams();
// Runs the node's work on the stream as the next operation.
cudaError_t execute(CUstream_st& stream, const Node& node);
// Runs the node now or, if work is deferred, later.
cudaError_t enqueue(CUstream_st& stream, Node node);
// Runs what is deferred; after a fault this only empties the streams.
void run_all_pending();

void host_knows(const Clock& clock);

bool any_capture();
cudaError_t capture_record(CUstream_st& stream, CUevent_st& event);
// The event or the stream is being captured.
cudaError_t capture_wait(CUstream_st& stream, CUevent_st& event);

}  // namespace duet::emulation
