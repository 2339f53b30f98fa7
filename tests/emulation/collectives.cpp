// What a collective does once all ranks' streams have come to it. A rank's memory is read and written by an operation
// of its own stream, so that the access checks see to the order of what lies before and behind it.
#include <algorithm>
#include <cstring>

#include "duet/core/dispatch.h"
#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/collectives.h"
#include "duet/tests/emulation/streams.h"

namespace duet::emulation {

struct Collective {
  struct Part {
    Request request{};
    CUstream_st* stream = nullptr;  // null: the rank has not asked for it
    bool arrived = false;           // everything before it on the stream is done
  };
  std::vector<Part> parts;
  bool done = false;
};

namespace {

using Bytes = std::vector<std::byte>;

template <class T>
T combine(ncclRedOp_t op, T a, T b) {
  const auto x = convert<Wide<T>>(a), y = convert<Wide<T>>(b);
  switch (op) {
    case ncclProd:
      return convert<T>(x * y);
    case ncclMax:
      return convert<T>(std::max(x, y));
    case ncclMin:
      return convert<T>(std::min(x, y));
    default:
      return convert<T>(x + y);
  }
}

template <class F>
void with_type(ncclDataType_t type, F&& f) {
  switch (type) {
    case ncclFloat32:
      return f(Type<float>{});
    case ncclFloat64:
      return f(Type<double>{});
    case ncclBfloat16:
      return f(Type<bf16>{});
    case ncclInt32:
      return f(Type<int32_t>{});
    case ncclInt64:
      return f(Type<int64_t>{});
    case ncclUint8:
      return f(Type<uint8_t>{});
    default:
      return;
  }
}

// In the order of the ranks; like NCCL's ring it rounds after every rank.
Bytes reduce(const Request& request, const std::vector<Bytes>& inputs) {
  Bytes result = inputs[0];
  with_type(request.type, [&]<class T>(Type<T>) {
    for (size_t rank = 1; rank < inputs.size(); rank++) {
      for (size_t i = 0; i < request.count; i++) {
        T a, b;
        std::memcpy(&a, &result[i * sizeof(T)], sizeof(T));
        std::memcpy(&b, &inputs[rank][i * sizeof(T)], sizeof(T));
        a = combine(request.op, a, b);
        std::memcpy(&result[i * sizeof(T)], &a, sizeof(T));
      }
    }
  });
  return result;
}

void perform(const Collective& collective) {
  std::vector<Bytes> inputs(collective.parts.size());
  const Request& first = collective.parts[0].request;
  const size_t bytes = first.count * bytes_of(first.type);
  for (size_t rank = 0; rank < inputs.size(); rank++) {
    const auto& [request, stream, arrived] = collective.parts[rank];
    if (request.kind == Request::Kind::broadcast && request.root != static_cast<int>(rank)) continue;
    const auto read = [&, from = request.send] {
      const OpenMemory open;
      if (!access_range(from, bytes, false)) return;
      const auto* begin = static_cast<const std::byte*>(from);
      inputs[rank].assign(begin, begin + bytes);
    };
    if (execute(*stream, {Node::Kind::copy, name_of(request.kind), read}) != cudaSuccess) return;
  }
  Bytes result;
  if (first.kind == Request::Kind::all_reduce) {
    result = reduce(first, inputs);
  } else {
    for (const Bytes& input : inputs) result.insert(result.end(), input.begin(), input.end());
  }
  for (const auto& [request, stream, arrived] : collective.parts) {
    const auto write = [&, to = request.recv] {
      const OpenMemory open;
      if (access_range(to, result.size(), true)) std::copy(result.begin(), result.end(), static_cast<std::byte*>(to));
    };
    if (execute(*stream, {Node::Kind::copy, name_of(request.kind), write}) != cudaSuccess) return;
  }
}

// Where a rank's stream waits for the others.
class Turn : public Obstacle {
 public:
  Turn(std::shared_ptr<ncclComm> comm, std::shared_ptr<Collective> collective, uint64_t number)
      : comm_(std::move(comm)), collective_(std::move(collective)), number_(number) {}
  // After a fault or the end of its stream the rank no longer takes part.
  ~Turn() override { mine().stream = nullptr; }

  bool cleared() override {
    Collective& all = *collective_;
    if (comm_->aborted || all.done) return true;
    mine().arrived = true;
    for (Collective::Part& part : all.parts) {
      if (part.stream == nullptr) return false;
      // The other devices work by themselves, whether or not their host threads wait for them.
      if (!part.arrived) run_without_waiting(*part.stream);
      if (all.done) return true;
      if (!part.arrived) return false;
    }
    perform(all);
    all.done = true;
    comm_->clique->collectives.erase(number_);
    runtime_mutex().changed();
    return true;
  }

  std::string description() const override {
    std::string missing;
    for (size_t i = 0; i < collective_->parts.size(); i++)
      if (!collective_->parts[i].arrived) missing += text(missing.empty() ? "" : ", ", i);
    return text("rank ", missing, " of ", collective_->parts.size(), " to come to ", name_of(mine().request.kind),
                ", number ", number_, " of the communicator");
  }

 private:
  Collective::Part& mine() const { return collective_->parts[static_cast<size_t>(comm_->rank)]; }

  std::shared_ptr<ncclComm> comm_;
  std::shared_ptr<Collective> collective_;
  uint64_t number_;
};

std::string describe(const Request& r) {
  std::string result = text(name_of(r.kind), " of ", r.count, " elements of type ", static_cast<int>(r.type));
  if (r.kind == Request::Kind::all_reduce) result += text(", operation ", static_cast<int>(r.op));
  if (r.kind == Request::Kind::broadcast) result += text(", root ", r.root);
  return result + text(", call ", r.place + 1, " of ", r.group, " in its group");
}

void issue(const std::shared_ptr<ncclComm>& comm, const Request& request, CUstream_st& stream, Node& node) {
  if (comm->aborted) return set_fault(cudaErrorLaunchFailure, "a recorded collective's communicator is gone");
  const uint64_t number = comm->issued++;
  auto& collective = comm->clique->collectives[number];
  if (collective == nullptr) {
    collective = std::make_shared<Collective>();
    collective->parts.resize(comm->clique->ranks.size());
  }
  for (size_t i = 0; i < collective->parts.size(); i++) {
    const auto& part = collective->parts[i];
    if (part.stream == nullptr || describe(part.request) == describe(request)) continue;
    // The real one would wait for ever, or mix up the data.
    set_fault(cudaErrorLaunchFailure,
              text("number ", number, " of the communicator's collectives differs: rank ", i, " asks for ",
                   describe(part.request), "; rank ", comm->rank, " for ", describe(request)));
    return;
  }
  collective->parts[static_cast<size_t>(comm->rank)] = {request, &stream, false};
  node.obstacle = std::make_shared<Turn>(comm, collective, number);
  runtime_mutex().changed();
}

}  // namespace

const char* name_of(Request::Kind kind) {
  return kind == Request::Kind::all_reduce  ? "ncclAllReduce"
         : kind == Request::Kind::broadcast ? "ncclBroadcast"
                                            : "ncclAllGather";
}

size_t bytes_of(ncclDataType_t type) {
  size_t bytes = 0;
  with_type(type, [&]<class T>(Type<T>) { bytes = sizeof(T); });
  return bytes;
}

bool has_unfinished(const ncclComm& comm) {
  const auto& all = comm.clique->collectives;
  return std::any_of(all.begin(), all.end(), [&](const auto& entry) {
    return entry.second->parts[static_cast<size_t>(comm.rank)].stream != nullptr;
  });
}

Node collective_node(std::shared_ptr<ncclComm> comm, const Request& request) {
  Node node{Node::Kind::collective, name_of(request.kind), [] {}};
  node.issue = [comm = std::move(comm), request](CUstream_st& stream, Node& issued) {
    issue(comm, request, stream, issued);
  };
  return node;
}

}  // namespace duet::emulation
