// Device memory of the emulated devices: address ranges, allocations, and what is known about every word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace duet::emulation {

// One for every four bytes of device memory.
//   writer: operation 28 bits | block 28 bits | bytes written by it 4 bits | bytes ever written 4 bits
//   reader: operation 28 bits | block 28 bits | bytes read by it 4 bits    | bytes read by earlier blocks 4 bits
// An operation is a launch, copy, fill or matrix product. The reader is the latest one, the earlier blocks are those of
// the same launch; of writers only the latest is known, so that after another block's half of a word was written a race
// for the first half goes unseen. A writer with no bytes set wrote atomically; block kManyBlocks stands for several.
struct Cell {
  uint64_t writer = 0;
  uint64_t reader = 0;
};
inline constexpr uint64_t kManyBlocks = (uint64_t{1} << 28) - 1;
inline constexpr uint64_t cell_operation(uint64_t word) {
  return word >> 36;
}
inline constexpr uint64_t cell_block(uint64_t word) {
  return word >> 8 & kManyBlocks;
}
inline constexpr uint64_t cell_mask(uint64_t word) {
  return word >> 4 & 15;
}

struct Allocation {
  uintptr_t address = 0;
  size_t bytes = 0;
  int device = 0;
  bool live = true;
};

// The whole range; set once before the first allocation, and read by every checked access.
struct ArenaRange {
  uintptr_t base = 0;
  size_t bytes = 0;
  size_t device_bytes = 0;
  Cell* cells = nullptr;
};
extern ArenaRange arena;

int device_count();
void open_arena();  // reserves the address range at the first call
// nullptr when the device's memory is full. Contents are a signalling NaN in both float and bf16, and count as
// unwritten.
void* allocate(int device, size_t bytes);
bool release(void* pointer);
size_t free_bytes(int device);
void count_allocations(uint64_t& number, uint64_t& bytes);  // the live ones

inline bool in_arena(uintptr_t address) {
  return address - arena.base < arena.bytes;
}
inline int device_of(uintptr_t address) {
  return static_cast<int>((address - arena.base) / arena.device_bytes);
}
inline Cell* cell_of(uintptr_t address) {
  return arena.cells + (address - arena.base) / 4;
}
// The allocation, alive or freed lately, that holds or closely precedes or follows `address`.
std::optional<Allocation> find_allocation(uintptr_t address);
// The live allocation holding all of [address, address + bytes).
bool is_allocated(uintptr_t address, size_t bytes);
// "12 bytes after the end of the allocation of 4096 bytes at 0x..., freed".
std::string describe_address(uintptr_t address, size_t bytes);

// Device memory is inaccessible unless one of these exists.
class OpenMemory {
 public:
  OpenMemory();
  ~OpenMemory();
  OpenMemory(const OpenMemory&) = delete;
};

// Pinned host memory, which kernels may read and write.
void* allocate_pinned(size_t bytes);
bool release_pinned(void* pointer);
bool is_pinned(uintptr_t address, size_t bytes);

}  // namespace duet::emulation
