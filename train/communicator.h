#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "duet/core/tensor.h"

namespace duet::train {

// What the ranks of a job do together: each rank is a process (or thread) with a device of its own, and all of them
// make the same calls with the same shapes and dtypes in the same order. What can be seen here of a call that would not
// fit the others' throws Error before anything is sent; what only a comparison of the ranks could show is not looked
// for, and may end in wrong numbers or in a wait for a rank that never comes.
//
// Tensors are on the communicator's device. Work is put on the device's compute stream, after the kernels asked for
// before it and before those asked for later, and can be recorded into a DeviceGraph; the call does not wait for it. A
// call with several tensors is one operation for the library: cheaper than one call for each. Ranks must group alike,
// and no two tensors of a call may share memory.
//
// When a rank fails, the others find out in their next call or their next wait for results of the device, which throws
// Error; where the library cannot tell (a process that was killed on the same machine), they do after `patience` of
// waiting. A communicator that has thrown so is of no more use, nor are graphs that recorded its calls, and what its
// last calls wrote is arbitrary. The library's part of it lives as long as such graphs do.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  Device device() const { return device_; }

  // Replaces elements by their sums over all ranks, the same bits on every rank. float32, bfloat16 or float64; sums are
  // taken in the tensor's own dtype, so that bfloat16 may be rounded once for every rank.
  void all_reduce(std::span<const Tensor> tensors);
  void all_reduce(const Tensor& tensor) { all_reduce(std::span(&tensor, 1)); }
  // Gives every rank the elements of rank `root`. Every dtype.
  void broadcast(std::span<const Tensor> tensors, int root);
  void broadcast(const Tensor& tensor, int root) { broadcast(std::span(&tensor, 1), root); }
  // mine (N, ...), all (size * N, ...): the tensors of all ranks, by rank. Every dtype. `mine` may be its own part of
  // `all`, but no other.
  void all_gather(const Tensor& mine, const Tensor& all);

 protected:
  Communicator(Device device, int rank, int size);

 private:
  // Called with arguments that are good, without empty tensors, and with one at least.
  virtual void reduce(std::span<const Tensor> tensors) = 0;
  virtual void send_from(std::span<const Tensor> tensors, int root) = 0;
  virtual void gather(const Tensor& mine, const Tensor& all) = 0;

  void check_tensor(const char* op, const Tensor& tensor) const;

  Device device_;
  int rank_, size_;
};

// The communicator of one rank, on any device. Needs no library.
std::unique_ptr<Communicator> alone(Device device = {});

// What the ranks of one communicator have in common. One rank makes it; how the others get its bytes is the caller's
// business (a file, a socket, a launcher). An id is good for one communicator.
struct CommunicatorId {
  std::array<std::byte, 128> bytes{};
};
CommunicatorId make_communicator_id(CudaContext context);

// Joins the `size` ranks that call it with the same id; each has a GPU of its own. Returns when all have come. Throws
// Error when a rank is out of range, when two are on one device, and when a rank has not come after `patience` seconds,
// which is also how long later waits for the device may last. Destroying it waits for the others' part in what was
// asked for, but not while an exception passes: then it lets them know.
std::unique_ptr<Communicator> join_communicator(CudaContext context, const CommunicatorId& id, int rank, int size,
                                                double patience = 600);

}  // namespace duet::train
