// Executes kernels: blocks one after another, the threads of a block as fibers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

#include "duet/tests/emulation/fiber.h"

namespace duet::emulation {

struct KernelCall;

inline constexpr unsigned kWarpSize = 32;
inline constexpr unsigned kMaxThreads = 1024;

struct ThreadState {
  enum class Status : uint8_t { idle, running, at_barrier, at_warp, exited };
  uint3 index{};
  unsigned number = 0;  // within the block
  Status status = Status::idle;
  Fiber* fiber = nullptr;
  // The barrier or warp operation it waits at.
  int op = 0;
  unsigned mask = 0;
  uint64_t value = 0;
  uint64_t result = 0;
  int argument = 0;
  int width = 32;
  uint32_t warp_epoch = 0;  // grows whenever it synchronises with its warp
};

// The block being executed; read by the access checks.
struct BlockState {
  // How accesses are marked and which earlier ones they may meet; also used for copies and fills.
  uint64_t tag = 0;  // operation and block, placed as in a Cell
  uint64_t operation = 0;
  uint64_t floor = 0;  // all operations up to this one are finished
  uintptr_t device_base = 0;
  bool any_device = false;  // copies may reach the memory of other devices
  const void* kernel = nullptr;
  uint32_t block = 0;          // linear index
  unsigned threads = 0;        // per block
  uint32_t serial = 0;         // differs for each block ever run
  uint32_t barrier_epoch = 0;  // differs after each barrier and between blocks
  ThreadState* current = nullptr;
  uintptr_t static_data = 0;  // where __shared__ variables lie
  size_t static_bytes = 0;
  uintptr_t stack = 0;  // of the fiber that runs
  size_t stack_bytes = 0;
  uintptr_t arguments = 0;
  size_t argument_bytes = 0;
  size_t shared_bytes = 0;     // of dynamic shared memory
  bool fenced = false;         // a thread of this block called __threadfence
  bool acquired = false;       // a thread of this block performed a global atomic
  std::vector<bool> released;  // blocks of this launch that fenced and then performed a global atomic
};
extern BlockState block_state;
// Whether this OS thread is executing an emulated thread now.
extern thread_local constinit bool in_kernel;

// Runs the whole grid. False after a fault.
bool run_grid(const KernelCall& call, dim3 grid, dim3 block);
// Ends the launch from inside an emulated thread.
[[noreturn]] void fail_in_kernel(cudaError_t code, const std::string& message);
// "[kernel, block (0,0,0), thread (1,0,0)]"
std::string place();

// Whether the address lies in the stack of an emulated thread.
bool in_some_fiber(uintptr_t address);
// Ends the launch because of a touched guard page, if it was one.
bool is_stack_overflow(uintptr_t address);

uint64_t launched_kernels();
uint64_t launched_threads();

// The name of the function or variable at an address of this program; "" if unknown.
std::string symbol_name(uintptr_t address);
// Static data that may be written, which holds __shared__ variables.
struct StaticDataRange {
  uintptr_t begin = 0, end = 0;
};
StaticDataRange static_data();
// Data that never changes after loading.
bool in_constant_data(uintptr_t address, size_t bytes);

void install_signal_handler();
}  // namespace duet::emulation
