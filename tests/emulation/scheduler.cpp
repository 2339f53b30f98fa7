#include "duet/tests/emulation/scheduler.h"

#include <array>
#include <bit>
#include <memory>
#include <utility>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/kernel_call.h"
#include "duet/tests/emulation/runtime.h"
#include "duet/tests/emulation/scheduler_state.h"

// The built-in variables. Kernels see them as constants: within a thread they are.
extern "C" {
uint3 threadIdx;
uint3 blockIdx;
uint3 blockDim;
uint3 gridDim;
int warpSize = 32;
}

namespace duet::emulation {

BlockState block_state;
thread_local constinit bool in_kernel = false;

Scheduler& scheduler() {
  static Scheduler& instance = *new Scheduler;
  return instance;
}

namespace {

void make_current(ThreadState& thread) {
  block_state.current = &thread;
  threadIdx = thread.index;
}

void thread_ends(ThreadState& self) {
  Scheduler& s = scheduler();
  self.status = Status::exited;
  s.exited++;
  if (s.at_barrier > 0) {
    for (unsigned i = 0; i < block_state.threads; i++) {
      if (s.threads[i].status == Status::at_barrier) {
        fail_in_kernel(cudaErrorLaunchFailure, text("divergent barrier: ", describe_wait(s.threads[i]), ", but ",
                                                    describe(self), " has returned from the kernel"));
      }
    }
  }
  const unsigned first = self.number / kWarpSize * kWarpSize, bit = 1u << self.number % kWarpSize;
  for (unsigned i = first; i < std::min(first + kWarpSize, s.next); i++) {
    const ThreadState& other = s.threads[i];
    if (other.status == Status::at_warp && (other.mask & bit)) {
      fail_in_kernel(cudaErrorLaunchFailure, text("divergent warp operation: ", describe_wait(other), ", but ",
                                                  describe(self), ", a lane of that mask, has returned"));
    }
  }
}

// What every fiber does: runs threads that have not started, one after another. A thread that never waits thus costs
// one call.
[[noreturn]] void run_threads() {
  Scheduler& s = scheduler();
  for (;;) {
    while (s.next < block_state.threads) {
      ThreadState& thread = s.threads[s.next++];
      thread.status = Status::running;
      make_current(thread);
      s.call->invoke(s.call->arguments.get());
      thread_ends(*block_state.current);
    }
    Fiber* self = s.running;
    s.idle.push_back(self);
    Context::switch_between(self->context, s.main);
  }
}

Fiber* take_fiber() {
  Scheduler& s = scheduler();
  if (s.idle.empty()) {
    s.fibers.push_back(std::make_unique<Fiber>(s.fibers.size()));
    s.fibers.back()->restart(run_threads);
    return s.fibers.back().get();
  }
  Fiber* fiber = s.idle.back();
  s.idle.pop_back();
  return fiber;
}

void resume(Fiber* fiber) {
  Scheduler& s = scheduler();
  s.running = fiber;
  block_state.stack = reinterpret_cast<uintptr_t>(fiber->low);
  block_state.stack_bytes = fiber->bytes;
  in_kernel = true;
  Context::switch_between(s.main, fiber->context);
  in_kernel = false;
}

// Nothing can run, but not all threads have ended: some wait for what will never come.
void report_deadlock() {
  Scheduler& s = scheduler();
  std::vector<const ThreadState*> waiting;  // one of each kind
  for (unsigned i = 0; i < block_state.threads; i++) {
    const ThreadState& thread = s.threads[i];
    if (thread.status != Status::at_barrier && thread.status != Status::at_warp) continue;
    bool known = false;
    for (const ThreadState* other : waiting) {
      known |= other->status == thread.status &&
               (thread.status == Status::at_barrier || (other->op == thread.op && other->mask == thread.mask));
    }
    if (!known && waiting.size() < 4) waiting.push_back(&thread);
  }
  std::string message = "divergent barrier (deadlock): ";
  for (size_t i = 0; i < waiting.size(); i++) message += (i ? "; " : "") + describe_wait(*waiting[i]);
  make_current(s.threads[waiting.empty() ? 0 : waiting[0]->number]);
  set_fault(cudaErrorLaunchTimeout, text(place(), " ", message));
  s.aborted = true;
}

void start_block(uint32_t number, uint3 index) {
  Scheduler& s = scheduler();
  block_state.block = number;
  block_state.tag = block_state.operation << 36 | uint64_t{number} << 8;
  block_state.serial++;
  block_state.barrier_epoch++;
  block_state.fenced = block_state.acquired = false;
  blockIdx = index;
  s.next = s.exited = s.at_barrier = 0;
  s.ready_head = s.ready_count = 0;
}

bool run_block() {
  Scheduler& s = scheduler();
  while (s.exited < block_state.threads) {
    if (s.ready_count > 0) {
      ThreadState& thread = *s.ready[s.ready_head];
      s.ready_head = (s.ready_head + 1) % kMaxThreads;
      s.ready_count--;
      make_current(thread);
      resume(thread.fiber);
    } else if (s.next < block_state.threads) {
      resume(take_fiber());
    } else {
      report_deadlock();
    }
    if (s.aborted) return false;
  }
  return true;
}

// After a fault the fibers stand in the middle of kernels: all start anew.
void reset_fibers() {
  Scheduler& s = scheduler();
  s.idle.clear();
  for (const auto& fiber : s.fibers) {
    fiber->restart(run_threads);
    s.idle.push_back(fiber.get());
  }
  for (ThreadState& thread : s.threads) thread.status = Status::idle;
  s.aborted = false;
}

}  // namespace

bool run_grid(const KernelCall& call, dim3 grid, dim3 block) {
  Scheduler& s = scheduler();
  s.call = &call;
  s.launches++;
  blockDim = {block.x, block.y, block.z};
  gridDim = {grid.x, grid.y, grid.z};
  const unsigned threads = block.x * block.y * block.z;
  block_state.kernel = call.kernel;
  block_state.threads = threads;
  block_state.arguments = reinterpret_cast<uintptr_t>(call.arguments.get());
  block_state.argument_bytes = call.argument_bytes;
  block_state.shared_bytes = call.shared_bytes;
  block_state.released.clear();
  block_state.static_data = static_data().begin;
  block_state.static_bytes = static_data().end - static_data().begin;
  for (unsigned i = 0; i < threads; i++) {
    ThreadState& thread = s.threads[i];
    thread.number = i;
    thread.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    thread.status = Status::idle;
  }
  const OpenMemory open;
  uint32_t number = 0;
  for (uint3 index{}; index.z < grid.z; index.z++) {
    for (index.y = 0; index.y < grid.y; index.y++) {
      for (index.x = 0; index.x < grid.x; index.x++) {
        start_block(number++, index);
        if (!run_block()) {
          reset_fibers();
          return false;
        }
      }
    }
  }
  s.thread_total += uint64_t{number} * threads;
  return true;
}

void fail_in_kernel(cudaError_t code, const std::string& message) {
  Scheduler& s = scheduler();
  set_fault(code, text(place(), " ", message));
  s.aborted = true;
  Context::switch_between(s.running->context, s.main);
  std::abort();  // an abandoned fiber is never resumed
}

std::string place() {
  const uint3& thread = block_state.current->index;
  return text("[", symbol_name(reinterpret_cast<uintptr_t>(block_state.kernel)), ", block (", blockIdx.x, ",",
              blockIdx.y, ",", blockIdx.z, "), thread (", thread.x, ",", thread.y, ",", thread.z, ")]");
}

void memory_fence() {
  block_state.fenced = true;
}

void trap(const char* what) {
  fail_in_kernel(cudaErrorLaunchFailure, text("the kernel stopped itself: ", what));
}

bool in_some_fiber(uintptr_t address) {
  for (const auto& fiber : scheduler().fibers) {
    if (fiber->contains(address)) return true;
  }
  return false;
}

bool is_stack_overflow(uintptr_t address) {
  for (const auto& fiber : scheduler().fibers) {
    if (fiber->guard_contains(address)) return true;
  }
  return false;
}

uint64_t launched_kernels() {
  return scheduler().launches;
}
uint64_t launched_threads() {
  return scheduler().thread_total;
}

}  // namespace duet::emulation
