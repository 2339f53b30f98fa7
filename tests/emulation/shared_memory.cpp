#include "duet/tests/emulation/shared_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <string>

#include "duet/core/error.h"
#include "duet/tests/emulation/kernel_call.h"
#include "duet/tests/emulation/scheduler.h"

namespace duet::emulation {

alignas(1024) std::byte dynamic_shared_memory[kMaxDynamicShared];

namespace {

// What happened to one word since the last barrier. `serial` names the block; another block finds it unwritten.
struct SharedCell {
  uint32_t serial;
  uint32_t write_epoch, write_warp_epoch;
  uint32_t read_epoch, read_warp_epoch;
  uint16_t writer, reader;
  uint8_t write_mask, read_mask;
  uint8_t written;  // bytes ever written by this block
  bool atomic : 1;
  bool many_atomic : 1;
  bool many_readers : 1;
  bool many_warps : 1;  // readers in several warps
};
static_assert(sizeof(SharedCell) == 28);

constexpr size_t kMaxSharedBytes = 48 << 10;

struct SharedMemory {
  StaticDataRange range = static_data();
  SharedCell* cells;
  uint32_t serial = 0;
  size_t touched = 0;  // bytes of the current block

  SharedMemory() {
    void* memory = mmap(nullptr, (range.end - range.begin) / 4 * sizeof(SharedCell), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(memory != MAP_FAILED, "emulation", "no memory to check shared memory with");
    cells = static_cast<SharedCell*>(memory);
  }
};

SharedMemory& shared_memory() {
  static SharedMemory& instance = *new SharedMemory;
  return instance;
}

bool same_warp(unsigned a, unsigned b) {
  return a / kWarpSize == b / kWarpSize;
}

[[noreturn]] void fail_shared(cudaError_t code, const char* what, uintptr_t address, bool write,
                              const std::string& rest) {
  fail_in_kernel(code, text(what, write ? "writes " : "reads ", symbol_name(address), rest));
}

std::string by(const char* did, unsigned thread, bool several) {
  return several ? text(", ", did, " by several threads since the last barrier")
                 : text(", ", did, " by thread number ", thread, " since the last barrier");
}

}  // namespace

void access_shared(uintptr_t address, size_t bytes, bool write, bool atomic) {
  SharedMemory& shared = shared_memory();
  const BlockState& block = block_state;
  const ThreadState& self = *block.current;
  const auto me = static_cast<uint16_t>(self.number);
  if (shared.serial != block.serial) {
    shared.serial = block.serial;
    shared.touched = 0;
  }
  const uintptr_t offset = address - reinterpret_cast<uintptr_t>(dynamic_shared_memory);
  const bool dynamic = offset < kMaxDynamicShared;
  if (dynamic && offset + bytes > block.shared_bytes) {
    fail_in_kernel(cudaErrorIllegalAddress, text("out of bounds: ", write ? "writes" : "reads", " byte ", offset,
                                                 " of ", block.shared_bytes, " of dynamic shared memory"));
  }
  for (uintptr_t at = address; at < address + bytes;) {
    const uintptr_t end = std::min(address + bytes, (at | 3) + 1);
    const auto mask = static_cast<uint8_t>(((1u << (end - at)) - 1) << (at & 3));
    SharedCell& cell = shared.cells[(at - shared.range.begin) / 4];
    at = end;
    if (cell.serial != block.serial) {
      cell = {.serial = block.serial};
      if (!dynamic) shared.touched += 4;
      if (shared.touched > kMaxSharedBytes) {
        fail_in_kernel(cudaErrorInvalidValue, text("more than ", kMaxSharedBytes, " bytes of shared memory"));
      }
    }
    if ((!write || atomic) && (cell.written & mask) != mask) {
      fail_shared(cudaErrorIllegalAddress, "uninitialised: ", address, false, ", which was never written");
    }
    if (cell.write_epoch == block.barrier_epoch && (cell.write_mask & mask) && !(atomic && cell.atomic)) {
      const bool ordered = cell.writer == me || (same_warp(cell.writer, me) && self.warp_epoch > cell.write_warp_epoch);
      if (!ordered || cell.many_atomic) {
        fail_shared(cudaErrorLaunchFailure, "race: ", address, write, by("written", cell.writer, cell.many_atomic));
      }
    }
    if (!write) {
      const bool fresh = cell.read_epoch != block.barrier_epoch;
      const bool alone = !cell.many_readers && cell.reader == me;
      if (fresh ||
          (!alone && !cell.many_warps && same_warp(cell.reader, me) && self.warp_epoch > cell.read_warp_epoch)) {
        cell.read_mask = 0;
        cell.many_readers = cell.many_warps = false;
      } else if (!alone) {
        cell.many_readers = true;
        cell.many_warps |= !same_warp(cell.reader, me);
      }
      cell.reader = me;
      cell.read_epoch = block.barrier_epoch;
      cell.read_warp_epoch = fresh ? self.warp_epoch : std::max(cell.read_warp_epoch, self.warp_epoch);
      cell.read_mask |= mask;
      continue;
    }
    if (cell.read_epoch == block.barrier_epoch && (cell.read_mask & mask)) {
      const bool own = cell.reader == me && !cell.many_readers;
      const bool ordered =
          own || (!cell.many_warps && same_warp(cell.reader, me) && self.warp_epoch > cell.read_warp_epoch);
      if (!ordered)
        fail_shared(cudaErrorLaunchFailure, "race: ", address, true, by("read", cell.reader, cell.many_readers));
    }
    const bool same = cell.write_epoch == block.barrier_epoch;
    cell.many_atomic = atomic && same && cell.atomic && (cell.many_atomic || cell.writer != me);
    cell.write_mask = same && cell.writer == me ? cell.write_mask | mask : mask;
    cell.atomic = atomic;
    cell.writer = me;
    cell.write_epoch = block.barrier_epoch;
    cell.write_warp_epoch = self.warp_epoch;
    cell.written |= mask;
  }
}

}  // namespace duet::emulation
