// What compiled kernels ask of the runtime.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace duet::emulation {

// A kernel with a copy of its arguments, which a stream or a graph may run any number of times.
struct KernelCall {
  const void* kernel = nullptr;
  std::shared_ptr<std::byte> arguments;
  size_t argument_bytes = 0;
  size_t shared_bytes = 0;                               // of dynamic shared memory
  void (*invoke)(const std::byte* arguments) = nullptr;  // runs the current thread
};
cudaError_t launch(const cudaLaunchConfig_t& config, KernelCall call);

inline constexpr size_t kMaxDynamicShared = 232448;
extern std::byte dynamic_shared_memory[kMaxDynamicShared];  // of the block that runs

enum class WarpOp { sync, shuffle, shuffle_up, shuffle_down, shuffle_xor, ballot, any, all };
// Waits for every lane in `mask`. `value` is this lane's contribution, `argument` the source lane, delta or lane mask.
uint64_t warp_exchange(WarpOp op, unsigned mask, uint64_t value, int argument, int width);
enum class BlockOp { sync, count, all, any };
int block_barrier(BlockOp op, bool predicate);
void memory_fence();
[[noreturn]] void trap(const char* what);
// Checks an atomic access of `bytes` at `address`; the caller then performs it (threads are not preempted).
void atomic_access(const void* address, size_t bytes);

}  // namespace duet::emulation
