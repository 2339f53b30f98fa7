// What scheduler.cpp and barriers.cpp share: the threads of the block that runs.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "duet/tests/emulation/fiber.h"
#include "duet/tests/emulation/kernel_call.h"
#include "duet/tests/emulation/scheduler.h"

namespace duet::emulation {

using Status = ThreadState::Status;

struct Scheduler {
  Context main;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> idle;
  Fiber* running = nullptr;
  std::array<ThreadState, kMaxThreads> threads;
  std::array<ThreadState*, kMaxThreads> ready;  // a ring: each thread is in it at most once
  size_t ready_head = 0, ready_count = 0;
  unsigned next = 0;  // first thread that has not started
  unsigned exited = 0;
  unsigned at_barrier = 0;
  uint32_t warp_epoch = 0;
  bool aborted = false;
  const KernelCall* call = nullptr;
  uint64_t launches = 0, thread_total = 0;
};

Scheduler& scheduler();
// "thread (1,0,0)", and what it waits for.
std::string describe(const ThreadState& thread);
std::string describe_wait(const ThreadState& thread);

}  // namespace duet::emulation
