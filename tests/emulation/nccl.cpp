// NCCL among the emulated devices: the ranks are threads of this process, each with a device of its own. Stricter than
// the real one, which trusts its callers: what differs between ranks is found, and nothing waits for ever.
#include "duet/tests/emulation/collectives.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/emulation.h"
#include "duet/tests/emulation/streams.h"

namespace duet::emulation {

bool Clique::complete() const {
  return std::all_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank != nullptr; });
}

namespace {

using Id = std::array<char, NCCL_UNIQUE_ID_BYTES>;

struct Library {
  std::map<Id, std::shared_ptr<Clique>> cliques;  // by ids that are still to be used; null before the first rank
  std::map<ncclComm*, std::shared_ptr<ncclComm>> live;
  uint64_t next_id = 1;
};
Library& library() {
  static Library& instance = *new Library;
  return instance;
}

// Of this thread, from ncclGroupStart to the matching ncclGroupEnd.
struct Group {
  struct Call {
    std::shared_ptr<ncclComm> comm;
    Request request;
    CUstream_st* stream;
  };
  int depth = 0;
  ncclResult_t error = ncclSuccess;
  std::vector<Call> calls;
  std::vector<std::shared_ptr<ncclComm>> joining;
};
thread_local Group group;
thread_local std::string last_error;

std::shared_ptr<ncclComm> find(ncclComm_t comm) {
  const auto found = library().live.find(comm);
  return found == library().live.end() ? nullptr : found->second;
}

ncclResult_t state_of(const ncclComm& comm) {
  if (fault_code() != cudaSuccess) return refuse(ncclUnhandledCudaError, cudaGetErrorString(fault_code()));
  if (comm.clique->failure != ncclSuccess) return comm.clique->failure;
  if (!comm.clique->complete()) return ncclInProgress;
  for (const auto& other : comm.clique->ranks)
    if (other->aborted && has_unfinished(comm))
      return refuse(ncclRemoteError, text("rank ", other->rank, " aborted the communicator"));
  return comm.finalized && has_unfinished(comm) ? ncclInProgress : ncclSuccess;
}

// For calls that block.
ncclResult_t wait_until_settled(const ncclComm& comm) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                                          std::chrono::duration<double>(rank_timeout()));
  for (;;) {
    const ncclResult_t state = state_of(comm);
    if (state != ncclInProgress) return state;
    const auto streams = live_streams();
    for (CUstream_st* stream : streams)
      if (stream->device == comm.device) run_without_waiting(*stream);
    if (state_of(comm) != ncclInProgress) continue;
    if (!runtime_mutex().wait_for_change(end) && std::chrono::steady_clock::now() >= end)
      return refuse(ncclSystemError, text("after ", rank_timeout(), " s ranks are still missing"));
  }
}

ncclResult_t give_to_streams(ncclComm& comm) {
  for (auto& [stream, node] : std::exchange(comm.unsettled, {})) {
    if (const cudaError_t error = submit(*stream, std::move(node)); error != cudaSuccess)
      return refuse(ncclUnhandledCudaError, cudaGetErrorString(error));
  }
  return ncclSuccess;
}

ncclResult_t end_group() {
  Group ended = std::exchange(group, {});
  if (ended.error != ncclSuccess) return ended.error;
  ncclResult_t result = ncclSuccess;
  for (const auto& comm : ended.joining) {
    const ncclResult_t joined = comm->blocking ? wait_until_settled(*comm) : ncclInProgress;
    if (joined != ncclSuccess) result = joined;
  }
  std::set<ncclComm*> blocking;
  for (Group::Call& call : ended.calls) {
    const auto same = [&](const Group::Call& other) { return other.comm == call.comm; };
    call.request.group = static_cast<size_t>(std::count_if(ended.calls.begin(), ended.calls.end(), same));
    call.request.place = static_cast<size_t>(std::count_if(ended.calls.data(), &call, same));
    call.comm->unsettled.emplace_back(call.stream, collective_node(call.comm, call.request));
    if (call.comm->blocking)
      blocking.insert(call.comm.get());
    else
      result = ncclInProgress;
  }
  for (ncclComm* comm : blocking)
    if (const ncclResult_t given = give_to_streams(*comm); given != ncclSuccess) return given;
  return result;
}

bool overlap(const void* a, size_t a_bytes, const void* b, size_t b_bytes) {
  const auto first = reinterpret_cast<uintptr_t>(a), second = reinterpret_cast<uintptr_t>(b);
  return first < second + b_bytes && second < first + a_bytes;
}

ncclResult_t validate(const ncclComm& comm, const Request& r, const CUstream_st* stream) {
  const auto ranks = comm.clique->ranks.size();
  if (comm.aborted || comm.finalized) return refuse(ncclInvalidUsage, "the communicator has been ended");
  if (!comm.unsettled.empty() || state_of(comm) == ncclInProgress)
    return refuse(ncclInvalidUsage, "the communicator's last call is in progress: ask ncclCommGetAsyncError first");
  if (stream == nullptr) return refuse(ncclInvalidArgument, "unknown stream");
  // The real one makes its own device current; a caller that forgot to is likely to have forgotten more.
  if (current_device() != comm.device || stream->device != comm.device)
    return refuse(ncclInvalidUsage, text("the communicator is device ", comm.device, "'s, the stream device ",
                                         stream->device, "'s, and device ", current_device(), " is current"));
  const size_t size = bytes_of(r.type);
  if (size == 0) return refuse(ncclInvalidArgument, text("type ", static_cast<int>(r.type), " is not emulated"));
  if (r.op < ncclSum || r.op > ncclMin)
    return refuse(ncclInvalidArgument, text("operation ", static_cast<int>(r.op), " is not emulated"));
  if (r.root < 0 || r.root >= static_cast<int>(ranks))
    return refuse(ncclInvalidArgument, text("root ", r.root, " of ", ranks, " ranks"));
  if (r.count == 0) return ncclSuccess;
  const bool reads = r.kind != Request::Kind::broadcast || r.root == comm.rank;
  for (const void* pointer : {reads ? r.send : r.recv, static_cast<const void*>(r.recv)}) {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    if (!in_arena(address) || address % size != 0)
      return refuse(ncclInvalidArgument, text(pointer, " is no device memory, or not aligned to ", size, " bytes"));
  }
  const bool gathers = r.kind == Request::Kind::all_gather;
  const size_t bytes = r.count * size;
  const auto* in_place = static_cast<std::byte*>(r.recv) + (gathers ? static_cast<size_t>(comm.rank) * bytes : 0);
  if (reads && r.send != in_place && overlap(r.send, bytes, r.recv, gathers ? ranks * bytes : bytes))
    return refuse(ncclInvalidArgument, "the source overlaps the destination, and not in place");
  return ncclSuccess;
}

ncclResult_t collect(ncclComm_t handle, const Request& request, cudaStream_t stream_handle) {
  const auto lock = lock_runtime();
  ncclGroupStart();
  const auto comm = find(handle);
  CUstream_st* stream = resolve(stream_handle);
  const ncclResult_t status =
      comm ? validate(*comm, request, stream) : refuse(ncclInvalidArgument, "no such communicator");
  if (status == ncclSuccess)
    group.calls.push_back({comm, request, stream});
  else if (group.error == ncclSuccess)
    group.error = status;
  const ncclResult_t ended = ncclGroupEnd();
  return status == ncclSuccess ? ended : status;
}

ncclResult_t join(ncclComm_t* result, int size, const ncclUniqueId& unique, int rank, bool blocking) {
  const auto lock = lock_runtime();
  if (result == nullptr || size < 1 || rank < 0 || rank >= size)
    return refuse(ncclInvalidArgument, text("rank ", rank, " of ", size));
  *result = nullptr;
  Id id;
  std::memcpy(id.data(), unique.internal, id.size());
  const auto found = library().cliques.find(id);
  if (found == library().cliques.end())
    return refuse(ncclInvalidArgument, "an id that ncclGetUniqueId did not give, or whose ranks have all come");
  if (found->second == nullptr) {
    found->second = std::make_shared<Clique>();
    found->second->ranks.resize(static_cast<size_t>(size));
  }
  const auto clique = found->second;
  if (clique->ranks.size() != static_cast<size_t>(size))
    return refuse(ncclInvalidArgument, text("rank ", rank, " says ", size, " ranks, others ", clique->ranks.size()));
  if (clique->ranks[static_cast<size_t>(rank)] != nullptr)
    return refuse(ncclInvalidUsage, text("rank ", rank, " has come already"));
  for (const auto& other : clique->ranks) {
    if (other == nullptr || other->device != current_device()) continue;
    clique->failure = ncclInvalidUsage;
    runtime_mutex().changed();
    return refuse(ncclInvalidUsage, text("ranks ", other->rank, " and ", rank, " are both on device ", other->device));
  }
  auto comm = std::make_shared<ncclComm>();
  comm->clique = clique;
  comm->rank = rank;
  comm->device = current_device();
  comm->blocking = blocking;
  clique->ranks[static_cast<size_t>(rank)] = comm;
  if (clique->complete()) library().cliques.erase(found);
  library().live[comm.get()] = comm;
  *result = comm.get();
  runtime_mutex().changed();
  if (group.depth > 0) {
    group.joining.push_back(comm);
    return ncclSuccess;
  }
  return blocking ? wait_until_settled(*comm) : ncclInProgress;
}

}  // namespace

ncclResult_t refuse(ncclResult_t status, const std::string& reason) {
  last_error = reason;
  return status;
}

}  // namespace duet::emulation

using namespace duet::emulation;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  if (version == nullptr) return refuse(ncclInvalidArgument, "nowhere to put the version");
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const auto lock = lock_runtime();
  if (id == nullptr) return refuse(ncclInvalidArgument, "nowhere to put the id");
  // All bytes count, so that one that gets lost on the way shows.
  Id bytes;
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<char>(library().next_id * 31 + i * 7 + 1);
  std::memcpy(bytes.data(), &library().next_id, sizeof(library().next_id));
  library().next_id++;
  library().cliques[bytes] = nullptr;
  std::memcpy(id->internal, bytes.data(), bytes.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  return join(comm, size, id, rank, true);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  const ncclConfig_t fresh = NCCL_CONFIG_INITIALIZER;
  if (config != nullptr && (config->magic != fresh.magic || config->size != fresh.size))
    return refuse(ncclInvalidArgument, "a configuration that NCCL_CONFIG_INITIALIZER did not make");
  return join(comm, size, id, rank, config == nullptr || config->blocking != 0);
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  const auto lock = lock_runtime();
  const auto comm = find(handle);
  if (!comm) return refuse(ncclInvalidArgument, "no such communicator");
  if (comm->finalized || comm->aborted) return refuse(ncclInvalidUsage, "the communicator has been ended");
  comm->finalized = true;
  return comm->blocking ? wait_until_settled(*comm) : state_of(*comm);
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  const auto lock = lock_runtime();
  const auto comm = find(handle);
  if (!comm) return refuse(ncclInvalidArgument, "no such communicator");
  comm->aborted = true;
  comm->unsettled.clear();
  library().live.erase(handle);
  runtime_mutex().changed();
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  const auto lock = lock_runtime();
  const auto comm = find(handle);
  if (!comm) return refuse(ncclInvalidArgument, "no such communicator");
  comm->finalized = true;
  const ncclResult_t result = wait_until_settled(*comm);
  // Held here, by the library and by the clique; by others only in graphs, which NCCL would wait for without an end.
  if (comm.use_count() > 3) set_fault(cudaErrorUnknown, "a communicator is destroyed before a graph with its calls");
  comm->aborted = true;  // what was recorded can no longer run
  library().live.erase(handle);
  return result;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* error) {
  const auto lock = lock_runtime();
  const auto comm = find(handle);
  if (!comm || error == nullptr) return refuse(ncclInvalidArgument, "no such communicator");
  const ncclResult_t given = give_to_streams(*comm);
  if (comm->finalized) {
    const auto streams = live_streams();
    for (CUstream_st* stream : streams)
      if (stream->device == comm->device) run_without_waiting(*stream);
  }
  *error = given == ncclSuccess ? state_of(*comm) : given;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t status) {
  constexpr const char* texts[] = {"no error",
                                   "unhandled cuda error",
                                   "unhandled system error",
                                   "internal error",
                                   "invalid argument",
                                   "invalid usage",
                                   "remote process exited or there was a network error",
                                   "NCCL operation in progress"};
  return status >= 0 && static_cast<size_t>(status) < std::size(texts) ? texts[status] : "unknown result code";
}

const char* ncclGetLastError(ncclComm_t) {
  return last_error.c_str();
}

ncclResult_t ncclGroupStart() {
  group.depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  const auto lock = lock_runtime();
  if (group.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  return --group.depth > 0 ? ncclSuccess : end_group();
}

ncclResult_t ncclAllReduce(const void* send, void* recv, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return collect(comm, {Request::Kind::all_reduce, send, recv, count, type, op}, stream);
}

ncclResult_t ncclBroadcast(const void* send, void* recv, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return collect(comm, {Request::Kind::broadcast, send, recv, count, type, ncclSum, root}, stream);
}

ncclResult_t ncclAllGather(const void* send, void* recv, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return collect(comm, {Request::Kind::all_gather, send, recv, count, type}, stream);
}
}
