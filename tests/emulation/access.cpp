// Checks of every memory access. The compiler calls these functions before each load and store of the emulated files
// (-fsanitize=thread, -fsanitize=alignment,bounds); ThreadSanitizer itself is not linked.
#include <cstdint>
#include <string>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/kernel_call.h"
#include "duet/tests/emulation/runtime.h"
#include "duet/tests/emulation/scheduler.h"
#include "duet/tests/emulation/shared_memory.h"

namespace duet::emulation {

namespace {

// Marks an access of the bytes `mask` of one word and says whether nothing speaks against it. The cases it cannot
// decide are left to check_word.
template <bool write>
inline bool mark(Cell& cell, uint64_t mask) {
  const BlockState& block = block_state;
  const uint64_t writer = cell.writer, reader = cell.reader;
  const bool own = ((writer ^ block.tag) >> 8) == 0;
  if ((writer & mask) != mask || !(own || cell_operation(writer) <= block.floor)) return false;
  const bool own_read = ((reader ^ block.tag) >> 8) == 0;
  if constexpr (write) {
    if (own_read ? (reader & mask) != 0 : cell_operation(reader) > block.floor) return false;
    cell.writer = block.tag | (own ? writer & 0xf0 : 0) | mask << 4 | (writer & 15);
  } else if (own_read) {
    cell.reader = reader | mask << 4;
  } else if (cell_operation(reader) == block.operation) {
    cell.reader = block.tag | mask << 4 | (reader & 15) | cell_mask(reader);
  } else {
    cell.reader = block.tag | mask << 4;
  }
  return true;
}

enum class Access { read, write, atomic };

const char* verb(Access access) {
  return access == Access::read ? "reads" : access == Access::write ? "writes" : "atomically updates";
}

// Never returns inside a kernel.
bool complain(cudaError_t code, const std::string& message) {
  if (in_kernel) fail_in_kernel(code, message);
  set_fault(code, text("[", current_operation().name, "] ", message));
  return false;
}

// Whether data of another block of this launch may be touched: that block published it with a fence and an atomic, and
// this one has performed an atomic since.
bool published(uint64_t other) {
  const BlockState& block = block_state;
  if (!block.acquired) return false;
  for (uint64_t i = other == kManyBlocks ? 0 : other; i <= (other == kManyBlocks ? block.block - 1 : other); i++) {
    if (i != block.block && (i >= block.released.size() || !block.released[i])) return false;
  }
  return true;
}

// `word` tells of an earlier access to the same bytes.
bool check_conflict(uint64_t word, bool earlier_wrote, Access access, uint64_t mask, uintptr_t address, size_t bytes) {
  const uint64_t operation = cell_operation(word);
  if (operation <= block_state.floor) return true;
  const bool earlier_atomic = earlier_wrote && cell_mask(word) == 0;
  if (earlier_atomic && access == Access::atomic && operation == block_state.operation) return true;
  const bool by_latest = earlier_atomic || (cell_mask(word) & mask) != 0;
  const bool by_others = !earlier_wrote && (word & mask) != 0;
  if (!by_latest && !by_others) return true;
  const char* earlier = earlier_atomic ? "updated atomically" : earlier_wrote ? "written" : "read";
  if (operation == block_state.operation) {
    const uint64_t latest = cell_block(word);
    if ((!by_latest || latest == block_state.block || published(latest)) && (!by_others || published(kManyBlocks)))
      return true;
    const std::string by =
        by_others || latest == kManyBlocks ? std::string("several blocks") : text("block number ", latest);
    return complain(cudaErrorLaunchFailure,
                    text("race between blocks: ", verb(access), " ", describe_address(address, bytes), ", ", earlier,
                         " by ", by, " in the same launch"));
  }
  if (is_ordered_before_current(static_cast<uint32_t>(operation))) return true;
  return complain(cudaErrorLaunchFailure,
                  text("race between streams: ", verb(access), " ", describe_address(address, bytes), ", ", earlier,
                       " by an operation of another stream that nothing makes this one wait for"));
}

// The full check of an access to device memory, which may span words.
bool check_words(uintptr_t address, size_t bytes, Access access) {
  if (!is_allocated(address, bytes)) {
    const auto found = find_allocation(address);
    const bool freed = found && !found->live && address - found->address < found->bytes;
    return complain(cudaErrorIllegalAddress, text(freed ? "use after free: " : "out of bounds: ", verb(access), " ",
                                                  describe_address(address, bytes)));
  }
  if (!block_state.any_device && address - block_state.device_base >= arena.device_bytes) {
    return complain(cudaErrorIllegalAddress, text("wrong device: ", verb(access), " ", describe_address(address, bytes),
                                                  ", on device ", current_operation().device));
  }
  for (uintptr_t at = address; at < address + bytes;) {
    const uintptr_t end = std::min(address + bytes, (at | 3) + 1);
    const uint64_t mask = ((uint64_t{1} << (end - at)) - 1) << (at & 3);
    Cell& cell = *cell_of(at);
    if (access != Access::write && (cell.writer & mask) != mask) {
      return complain(cudaErrorIllegalAddress, text("uninitialised: ", verb(access), " ",
                                                    describe_address(address, bytes), ", which was never written"));
    }
    if (!check_conflict(cell.writer, true, access, mask, address, bytes)) return false;
    if (access != Access::read && !check_conflict(cell.reader, false, access, mask, address, bytes)) return false;
    const BlockState& block = block_state;
    const bool same_launch = cell_operation(cell.writer) == block.operation;
    const bool own = ((cell.writer ^ block.tag) >> 8) == 0;
    if (access == Access::read) {
      const uint64_t reader = cell.reader;
      if (cell_operation(reader) != block.operation)
        cell.reader = block.tag | mask << 4;
      else if (cell_block(reader) == block.block)
        cell.reader = reader | mask << 4;
      else
        cell.reader = block.tag | mask << 4 | (reader & 15) | cell_mask(reader);
    } else if (access == Access::write) {
      cell.writer = block.tag | (own ? cell.writer & 0xf0 : 0) | mask << 4 | (cell.writer & 15) | mask;
    } else {
      const bool others = same_launch && !own && cell_mask(cell.writer) == 0;
      cell.writer = (others ? block.operation << 36 | kManyBlocks << 8 : block.tag) | 15;
    }
    at = end;
  }
  return true;
}

[[gnu::noinline]] void check_elsewhere(uintptr_t address, size_t bytes, Access access) {
  const BlockState& block = block_state;
  if (in_arena(address)) {
    check_words(address, bytes, access);
    return;
  }
  if (address - block.static_data < block.static_bytes) {
    access_shared(address, bytes, access != Access::read, access == Access::atomic);
    return;
  }
  if (in_constant_data(address, bytes)) {
    if (access == Access::read) return;
    fail_in_kernel(cudaErrorIllegalAddress, text(verb(access), " constant data at ", reinterpret_cast<void*>(address)));
  }
  if (address - block.arguments < block.argument_bytes || is_pinned(address, bytes)) return;
  const auto pointer = reinterpret_cast<void*>(address);
  if (address < 4096) {
    fail_in_kernel(cudaErrorIllegalAddress,
                   text("out of bounds: ", verb(access), " ", bytes, " bytes at ", pointer, ", a null pointer"));
  }
  const char* what = in_some_fiber(address) ? "local memory of another thread" : "host memory";
  fail_in_kernel(cudaErrorIllegalAddress, text(what, ": ", verb(access), " ", bytes, " bytes at ", pointer));
}

template <unsigned bytes, bool write>
inline void check_access(const void* pointer) {
  if (!in_kernel) return;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  constexpr Access access = write ? Access::write : Access::read;
  if (address - block_state.device_base < arena.device_bytes) {
    Cell* cell = cell_of(address);
    bool good;
    if constexpr (bytes <= 4) {
      good = (address & 3) + bytes <= 4 && mark<write>(*cell, ((1u << bytes) - 1) << (address & 3));
    } else {
      good = (address & 3) == 0;
      for (unsigned i = 0; good && i < bytes / 4; i++) good = mark<write>(cell[i], 15);
    }
    if (!good) check_words(address, bytes, access);
    return;
  }
  if (address - block_state.stack < block_state.stack_bytes) return;
  if (address - block_state.static_data < block_state.static_bytes) {
    access_shared(address, bytes, write, false);
    return;
  }
  check_elsewhere(address, bytes, access);
}

}  // namespace

bool access_range(const void* pointer, size_t bytes, bool write) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (bytes == 0) return true;
  if (!is_allocated(address, bytes)) return check_words(address, bytes, write ? Access::write : Access::read);
  // The marks below do not look at the device.
  if (!block_state.any_device && address - block_state.device_base >= arena.device_bytes) {
    return check_words(address, bytes, write ? Access::write : Access::read);
  }
  uintptr_t at = address;
  const uintptr_t end = address + bytes;
  while (at < end) {
    if ((at & 3) == 0 && end - at >= 4) {
      Cell& cell = *cell_of(at);
      if (write && cell.writer == 0 && cell.reader == 0) {
        cell.writer = block_state.tag | 0xff;
      } else if (!(write ? mark<true>(cell, 15) : mark<false>(cell, 15)) &&
                 !check_words(at, 4, write ? Access::write : Access::read)) {
        return false;
      }
      at += 4;
    } else {
      const uintptr_t stop = std::min(end, (at | 3) + 1);
      if (!check_words(at, stop - at, write ? Access::write : Access::read)) return false;
      at = stop;
    }
  }
  return true;
}

void atomic_access(const void* pointer, size_t bytes) {
  if (!in_kernel) return;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (address % bytes != 0) {
    fail_in_kernel(cudaErrorMisalignedAddress, text("misaligned: atomically updates ", bytes, " bytes at ", pointer));
  }
  check_elsewhere(address, bytes, Access::atomic);
  if (in_arena(address)) {
    BlockState& block = block_state;
    block.acquired = true;
    if (block.fenced) {
      if (block.released.size() <= block.block) block.released.resize(block.block + 1);
      block.released[block.block] = true;
    }
  }
}

}  // namespace duet::emulation

using duet::emulation::check_access;

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read1(void* p) {
  check_access<1, false>(p);
}
void __tsan_read2(void* p) {
  check_access<2, false>(p);
}
void __tsan_read4(void* p) {
  check_access<4, false>(p);
}
void __tsan_read8(void* p) {
  check_access<8, false>(p);
}
void __tsan_read16(void* p) {
  check_access<16, false>(p);
}
void __tsan_write1(void* p) {
  check_access<1, true>(p);
}
void __tsan_write2(void* p) {
  check_access<2, true>(p);
}
void __tsan_write4(void* p) {
  check_access<4, true>(p);
}
void __tsan_write8(void* p) {
  check_access<8, true>(p);
}
void __tsan_write16(void* p) {
  check_access<16, true>(p);
}
void __tsan_unaligned_read2(void* p) {
  check_access<2, false>(p);
}
void __tsan_unaligned_read4(void* p) {
  check_access<4, false>(p);
}
void __tsan_unaligned_read8(void* p) {
  check_access<8, false>(p);
}
void __tsan_unaligned_read16(void* p) {
  check_access<16, false>(p);
}
void __tsan_unaligned_write2(void* p) {
  check_access<2, true>(p);
}
void __tsan_unaligned_write4(void* p) {
  check_access<4, true>(p);
}
void __tsan_unaligned_write8(void* p) {
  check_access<8, true>(p);
}
void __tsan_unaligned_write16(void* p) {
  check_access<16, true>(p);
}
void __tsan_volatile_read1(void* p) {
  check_access<1, false>(p);
}
void __tsan_volatile_read2(void* p) {
  check_access<2, false>(p);
}
void __tsan_volatile_read4(void* p) {
  check_access<4, false>(p);
}
void __tsan_volatile_read8(void* p) {
  check_access<8, false>(p);
}
void __tsan_volatile_read16(void* p) {
  check_access<16, false>(p);
}
void __tsan_volatile_write1(void* p) {
  check_access<1, true>(p);
}
void __tsan_volatile_write2(void* p) {
  check_access<2, true>(p);
}
void __tsan_volatile_write4(void* p) {
  check_access<4, true>(p);
}
void __tsan_volatile_write8(void* p) {
  check_access<8, true>(p);
}
void __tsan_volatile_write16(void* p) {
  check_access<16, true>(p);
}
void __tsan_read_range(void* p, size_t bytes) {
  auto* at = static_cast<char*>(p);
  for (; bytes >= 4; at += 4, bytes -= 4) check_access<4, false>(at);
  for (; bytes > 0; at++, bytes--) check_access<1, false>(at);
}
void __tsan_write_range(void* p, size_t bytes) {
  auto* at = static_cast<char*>(p);
  for (; bytes >= 4; at += 4, bytes -= 4) check_access<4, true>(at);
  for (; bytes > 0; at++, bytes--) check_access<1, true>(at);
}
}
