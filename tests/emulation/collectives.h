// Between nccl.cpp, which knows communicators and groups, and collectives.cpp, which moves the data.
#pragma once

#include <nccl.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "duet/tests/emulation/runtime.h"

namespace duet::emulation {

struct Clique;

}  // namespace duet::emulation

// One rank's end of a communicator.
struct ncclComm {
  std::shared_ptr<duet::emulation::Clique> clique;
  int rank = 0, device = 0;
  bool blocking = true, aborted = false, finalized = false;
  uint64_t issued = 0;  // collectives
  // What a communicator that does not block has yet to give to its streams.
  std::vector<std::pair<CUstream_st*, duet::emulation::Node>> unsettled;
};

namespace duet::emulation {

// What all ranks of a collective must agree on, and the memory of this one.
struct Request {
  enum class Kind { all_reduce, broadcast, all_gather };
  Kind kind;
  const void* send;
  void* recv;
  size_t count;
  ncclDataType_t type;
  ncclRedOp_t op = ncclSum;
  int root = 0;
  size_t place = 0, group = 1;  // among the calls of its group
};
const char* name_of(Request::Kind kind);
size_t bytes_of(ncclDataType_t type);  // 0: not emulated

struct Collective;

// The ranks that one id brought together.
struct Clique {
  std::vector<std::shared_ptr<ncclComm>> ranks;                 // null: has not come
  std::map<uint64_t, std::shared_ptr<Collective>> collectives;  // those under way, by their number
  ncclResult_t failure = ncclSuccess;
  bool complete() const;
};

// Remembers why a call failed; ncclGetLastError tells.
ncclResult_t refuse(ncclResult_t status, const std::string& reason);
bool has_unfinished(const ncclComm& comm);
// Work for the rank's stream. It takes its place among the communicator's collectives when the stream gets it.
Node collective_node(std::shared_ptr<ncclComm> comm, const Request& request);

}  // namespace duet::emulation
