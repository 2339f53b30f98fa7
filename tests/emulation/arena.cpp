#include "duet/tests/emulation/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "duet/core/error.h"
#include "duet/tests/emulation/emulation.h"
#include "duet/tests/emulation/runtime.h"

namespace duet::emulation {

ArenaRange arena;

namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kGuard = 256;             // unallocated bytes between neighbours
constexpr size_t kQuarantine = 256 << 20;  // freed bytes per device that stay unused, to catch use after free
constexpr size_t kHugePage = 2 << 20;      // protection changes in steps of this keep huge pages whole
constexpr uint32_t kPoison = 0x7fa07fa0u;  // a signalling NaN as one float and as two bf16

size_t round_up(size_t value, size_t step) {
  return (value + step - 1) / step * step;
}
size_t footprint(size_t bytes) {
  return round_up(bytes, kAlignment) + kGuard;
}

size_t setting(const char* name, size_t fallback) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : fallback;
}

struct DeviceMemory {
  uintptr_t begin = 0, end = 0;
  uintptr_t top = 0;                  // nothing beyond was ever allocated
  std::map<uintptr_t, size_t> holes;  // reusable ranges, by address
  std::deque<uintptr_t> quarantine;   // freed, oldest first
  size_t quarantined = 0;
  size_t used = 0;
};

struct Memory {
  std::vector<DeviceMemory> devices;
  std::map<uintptr_t, Allocation> allocations;  // live and quarantined
  std::map<uintptr_t, size_t> pinned;
  Allocation last;  // found last: neighbouring accesses mostly fall into the same allocation
  int open = 0;
  bool protect = setting("DUET_EMULATED_PROTECT", 1) != 0;
};

Memory& memory() {
  static Memory& instance = *new Memory;  // outlives static objects that free device memory
  return instance;
}

void protect(int access) {
  for (const DeviceMemory& device : memory().devices) {
    const size_t bytes = round_up(device.top - device.begin, kHugePage);
    if (bytes > 0) mprotect(reinterpret_cast<void*>(device.begin), bytes, access);
  }
}

// Forgets what was written; large ranges give their pages back.
void clear_cells(uintptr_t address, size_t bytes) {
  auto begin = reinterpret_cast<uintptr_t>(cell_of(address));
  const uintptr_t end = reinterpret_cast<uintptr_t>(cell_of(address + round_up(bytes, kAlignment)));
  if (end - begin > (1 << 20)) {
    const uintptr_t first = round_up(begin, 4096), last = end / 4096 * 4096;
    std::memset(reinterpret_cast<void*>(begin), 0, first - begin);
    madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
    begin = last;
  }
  std::memset(reinterpret_cast<void*>(begin), 0, end - begin);
}

void add_hole(DeviceMemory& device, uintptr_t address, size_t bytes) {
  auto next = device.holes.lower_bound(address);
  if (next != device.holes.end() && address + bytes == next->first) {
    bytes += next->second;
    next = device.holes.erase(next);
  }
  if (next != device.holes.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == address) {
      before->second += bytes;
      return;
    }
  }
  device.holes.emplace(address, bytes);
}

void end_quarantine(DeviceMemory& device, size_t keep) {
  while (device.quarantined > keep) {
    const auto found = memory().allocations.find(device.quarantine.front());
    device.quarantine.pop_front();
    const size_t bytes = footprint(found->second.bytes);
    device.quarantined -= bytes;
    add_hole(device, found->first, bytes);
    memory().allocations.erase(found);
  }
}

uintptr_t find_room(DeviceMemory& device, size_t bytes) {
  for (auto hole = device.holes.begin(); hole != device.holes.end(); ++hole) {
    if (hole->second < bytes) continue;
    const auto [address, size] = *hole;
    device.holes.erase(hole);
    if (size > bytes) device.holes.emplace(address + bytes, size - bytes);
    return address;
  }
  if (device.end - device.top < bytes) return 0;
  const uintptr_t address = device.top;
  device.top += bytes;
  return address;
}

}  // namespace

int device_count() {
  static const int count = static_cast<int>(setting("DUET_EMULATED_DEVICES", 2));
  return count;
}

void open_arena() {
  if (arena.base != 0 || device_count() == 0) return;
  const size_t each = setting("DUET_EMULATED_MEMORY_MIB", 8192) << 20;
  const size_t bytes = each * static_cast<size_t>(device_count());
  auto reserve = [](size_t size, int access) {
    void* range = mmap(nullptr, size, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(range != MAP_FAILED, "emulation", "cannot reserve ", size >> 20,
          " MiB of address space for device memory; lower DUET_EMULATED_MEMORY_MIB");
    return reinterpret_cast<uintptr_t>(range);
  };
  const uintptr_t base = round_up(reserve(bytes + kHugePage, PROT_NONE), kHugePage);
  arena.cells = reinterpret_cast<Cell*>(reserve(bytes / 4 * sizeof(Cell), PROT_READ | PROT_WRITE));
  arena.device_bytes = each;
  arena.bytes = bytes;
  arena.base = base;
  madvise(reinterpret_cast<void*>(base), bytes, MADV_HUGEPAGE);
  for (int i = 0; i < device_count(); i++) {
    DeviceMemory device;
    device.begin = base + static_cast<size_t>(i) * each;
    device.end = device.begin + each;
    device.top = device.begin + kGuard;
    memory().devices.push_back(device);
  }
  if (!memory().protect) set_host_protection(false);
}

void* allocate(int device_index, size_t bytes) {
  open_arena();
  DeviceMemory& device = memory().devices.at(static_cast<size_t>(device_index));
  const size_t whole = footprint(bytes);
  if (bytes > arena.device_bytes) return nullptr;
  uintptr_t address = find_room(device, whole);
  if (address == 0) {
    end_quarantine(device, 0);
    address = find_room(device, whole);
    if (address == 0) return nullptr;
  }
  memory().allocations[address] = {address, bytes, device_index, true};
  device.used += whole;
  clear_cells(address, bytes);
  const OpenMemory open;
  const size_t words = round_up(bytes, kAlignment) / 4;
  std::fill_n(reinterpret_cast<uint32_t*>(address), words, kPoison);
  return reinterpret_cast<void*>(address);
}

bool release(void* pointer) {
  const auto found = memory().allocations.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == memory().allocations.end() || !found->second.live) return false;
  Allocation& allocation = found->second;
  allocation.live = false;
  memory().last = {};
  DeviceMemory& device = memory().devices[static_cast<size_t>(allocation.device)];
  device.used -= footprint(allocation.bytes);
  clear_cells(allocation.address, allocation.bytes);
  device.quarantine.push_back(allocation.address);
  device.quarantined += footprint(allocation.bytes);
  end_quarantine(device, kQuarantine);
  return true;
}

size_t free_bytes(int device) {
  open_arena();
  return arena.device_bytes - memory().devices.at(static_cast<size_t>(device)).used;
}

void count_allocations(uint64_t& number, uint64_t& bytes) {
  for (const auto& [address, allocation] : memory().allocations) {
    number += allocation.live;
    bytes += allocation.live ? allocation.bytes : 0;
  }
}

std::optional<Allocation> find_allocation(uintptr_t address) {
  const auto& all = memory().allocations;
  const auto next = all.upper_bound(address);
  std::optional<Allocation> best;
  if (next != all.begin()) best = std::prev(next)->second;
  const bool before_next = next != all.end() && next->first - address <= kGuard;
  if (before_next && (!best || address - best->address >= footprint(best->bytes) - kGuard / 2)) best = next->second;
  return best;
}

bool is_allocated(uintptr_t address, size_t bytes) {
  const Allocation& last = memory().last;
  if (address - last.address < last.bytes && address - last.address + bytes <= last.bytes) return true;
  const auto& all = memory().allocations;
  const auto next = all.upper_bound(address);
  if (next == all.begin()) return false;
  const Allocation& allocation = std::prev(next)->second;
  if (!allocation.live || address - allocation.address + bytes > allocation.bytes) return false;
  memory().last = allocation;
  return true;
}

std::string describe_address(uintptr_t address, size_t bytes) {
  const auto pointer = reinterpret_cast<void*>(address);
  const auto found = find_allocation(address);
  if (!found) return text(bytes, " bytes at ", pointer, ", device memory that was never allocated");
  const auto begin = reinterpret_cast<void*>(found->address);
  std::string place;
  if (address < found->address) {
    place = text(found->address - address, " bytes before the start of");
  } else if (address - found->address >= found->bytes) {
    place = text(address - found->address - found->bytes, " bytes after the end of");
  } else {
    place = text("at offset ", address - found->address, " of");
  }
  return text(bytes, " bytes at ", pointer, ", ", place, " the allocation of ", found->bytes, " bytes at ", begin,
              " on device ", found->device, found->live ? "" : ", which was freed");
}

OpenMemory::OpenMemory() {
  if (memory().open++ == 0 && memory().protect) protect(PROT_READ | PROT_WRITE);
}

OpenMemory::~OpenMemory() {
  if (--memory().open == 0 && memory().protect) protect(PROT_NONE);
}

void set_host_protection(bool on) {
  const auto lock = lock_runtime();
  open_arena();
  memory().protect = on;
  if (on) {
    protect(PROT_NONE);
  } else {
    // All of it, so that later allocations need no further call.
    mprotect(reinterpret_cast<void*>(arena.base), arena.bytes, PROT_READ | PROT_WRITE);
  }
}

void* allocate_pinned(size_t bytes) {
  void* pointer = std::aligned_alloc(4096, round_up(std::max<size_t>(bytes, 1), 4096));
  if (pointer) memory().pinned[reinterpret_cast<uintptr_t>(pointer)] = bytes;
  return pointer;
}

bool release_pinned(void* pointer) {
  if (memory().pinned.erase(reinterpret_cast<uintptr_t>(pointer)) == 0) return false;
  std::free(pointer);
  return true;
}

bool is_pinned(uintptr_t address, size_t bytes) {
  const auto next = memory().pinned.upper_bound(address);
  if (next == memory().pinned.begin()) return false;
  const auto& [begin, size] = *std::prev(next);
  return address - begin + bytes <= size;
}

}  // namespace duet::emulation
