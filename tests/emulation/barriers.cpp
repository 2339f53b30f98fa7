// Barriers of a block and operations of a warp: threads wait until all that must take part have arrived.
#include <algorithm>
#include <bit>

#include "duet/core/error.h"
#include "duet/tests/emulation/runtime.h"
#include "duet/tests/emulation/scheduler_state.h"

namespace duet::emulation {

namespace {

const char* name_of(WarpOp op) {
  constexpr const char* names[] = {"__syncwarp",      "__shfl_sync",   "__shfl_up_sync", "__shfl_down_sync",
                                   "__shfl_xor_sync", "__ballot_sync", "__any_sync",     "__all_sync"};
  return names[static_cast<int>(op)];
}

void make_ready(ThreadState& thread) {
  Scheduler& s = scheduler();
  thread.status = Status::running;
  s.ready[(s.ready_head + s.ready_count++) % kMaxThreads] = &thread;
}

// Lets others run until this thread is made ready.
void give_way(ThreadState& self) {
  Scheduler& s = scheduler();
  self.fiber = s.running;
  Context::switch_between(self.fiber->context, s.main);
}

}  // namespace

std::string describe(const ThreadState& thread) {
  return text("thread (", thread.index.x, ",", thread.index.y, ",", thread.index.z, ")");
}

std::string describe_wait(const ThreadState& thread) {
  if (thread.status == Status::at_barrier) return text(describe(thread), " waits at __syncthreads");
  return text(describe(thread), " waits at ", name_of(static_cast<WarpOp>(thread.op)), " with mask ", std::hex,
              std::showbase, thread.mask);
}

int block_barrier(BlockOp op, bool predicate) {
  Scheduler& s = scheduler();
  ThreadState& self = *block_state.current;
  if (s.exited > 0) {
    unsigned gone = 0;
    while (s.threads[gone].status != Status::exited) gone++;
    fail_in_kernel(cudaErrorLaunchFailure, text("divergent barrier: ", describe(self), " reached __syncthreads, but ",
                                                describe(s.threads[gone]), " has returned from the kernel"));
  }
  self.op = static_cast<int>(op);
  self.value = predicate;
  self.status = Status::at_barrier;
  if (++s.at_barrier < block_state.threads) {
    give_way(self);
    return static_cast<int>(self.result);
  }
  // The last to arrive.
  uint64_t count = 0;
  for (unsigned i = 0; i < block_state.threads; i++) {
    if (s.threads[i].op != self.op) {
      fail_in_kernel(cudaErrorLaunchFailure, text("divergent barrier: ", describe(self), " and ",
                                                  describe(s.threads[i]), " are at different kinds of __syncthreads"));
    }
    count += s.threads[i].value;
  }
  const uint64_t result = op == BlockOp::all ? count == block_state.threads : op == BlockOp::any ? count > 0 : count;
  s.at_barrier = 0;
  block_state.barrier_epoch++;
  for (unsigned i = 0; i < block_state.threads; i++) {
    s.threads[i].result = result;
    if (i != self.number) make_ready(s.threads[i]);
  }
  self.status = Status::running;
  return static_cast<int>(result);
}

namespace {

// The lane whose value `lane` receives. A source beyond the segment leaves the lane its own value, as on the device.
unsigned source_lane(const ThreadState& thread, unsigned lane) {
  const auto width = static_cast<unsigned>(thread.width);
  const unsigned segment = lane / width * width;
  const auto argument = static_cast<unsigned>(thread.argument);
  switch (static_cast<WarpOp>(thread.op)) {
    case WarpOp::shuffle:
      return segment + argument % width;
    case WarpOp::shuffle_up:
      return lane - segment < argument ? lane : lane - argument;
    case WarpOp::shuffle_down:
      return argument >= width || lane + argument >= segment + width ? lane : lane + argument;
    case WarpOp::shuffle_xor:
      return (lane ^ argument) >= segment + width ? lane : lane ^ argument;
    default:
      return lane;
  }
}

void finish_warp_operation(ThreadState* warp, unsigned mask, ThreadState& self) {
  Scheduler& s = scheduler();
  const auto op = static_cast<WarpOp>(self.op);
  uint64_t ballot = 0;
  for (unsigned lane = 0; lane < kWarpSize; lane++) {
    if (mask >> lane & 1) ballot |= (warp[lane].value & 1) << lane;
  }
  const uint32_t epoch = ++s.warp_epoch;
  for (unsigned lane = 0; lane < kWarpSize; lane++) {
    if (!(mask >> lane & 1)) continue;
    ThreadState& thread = warp[lane];
    thread.warp_epoch = epoch;
    if (op == WarpOp::ballot) {
      thread.result = ballot;
    } else if (op == WarpOp::any) {
      thread.result = ballot != 0;
    } else if (op == WarpOp::all) {
      thread.result = ballot == mask;
    } else if (op != WarpOp::sync) {
      const unsigned source = source_lane(thread, lane);
      if (source >= kWarpSize || !(mask >> source & 1)) {
        fail_in_kernel(cudaErrorLaunchFailure, text(name_of(op), ": lane ", lane, " reads from lane ", source,
                                                    ", which is not in the mask ", std::hex, std::showbase, mask));
      }
      thread.result = warp[source].value;
    }
    if (&thread != &self) make_ready(thread);
  }
  self.status = Status::running;
}

}  // namespace

uint64_t warp_exchange(WarpOp op, unsigned mask, uint64_t value, int argument, int width) {
  Scheduler& s = scheduler();
  ThreadState& self = *block_state.current;
  const unsigned first = self.number / kWarpSize * kWarpSize, lane = self.number - first;
  ThreadState* warp = &s.threads[first];
  if (!(mask >> lane & 1)) {
    fail_in_kernel(cudaErrorLaunchFailure,
                   text(name_of(op), ": lane ", lane, " is not in its own mask ", std::hex, std::showbase, mask));
  }
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
    fail_in_kernel(cudaErrorLaunchFailure, text(name_of(op), ": width ", width, " is not a power of two up to 32"));
  }
  self.op = static_cast<int>(op);
  self.mask = mask;
  self.value = value;
  self.argument = argument;
  self.width = width;
  self.status = Status::at_warp;
  bool complete = true;
  for (unsigned i = 0; i < kWarpSize; i++) {
    if (!(mask >> i & 1)) continue;
    if (first + i >= block_state.threads) {
      fail_in_kernel(cudaErrorLaunchFailure,
                     text(name_of(op), ": the mask ", std::hex, std::showbase, mask, std::dec, " names lane ", i,
                          ", but the block has only ", block_state.threads, " threads"));
    }
    const ThreadState& other = warp[i];
    const bool started = first + i < s.next;
    if (started && other.status == Status::exited) {
      fail_in_kernel(cudaErrorLaunchFailure, text(name_of(op), ": lane ", i, " of the mask ", std::hex, std::showbase,
                                                  mask, " has returned from the kernel"));
    }
    const bool here = started && other.status == Status::at_warp && other.mask == mask;
    if (here && other.op != self.op) {
      fail_in_kernel(cudaErrorLaunchFailure,
                     text("divergent warp operation: ", describe_wait(other), ", but ", describe_wait(self)));
    }
    complete &= here;
  }
  if (complete) {
    finish_warp_operation(warp, mask, self);
  } else {
    give_way(self);
  }
  return self.result;
}

}  // namespace duet::emulation
