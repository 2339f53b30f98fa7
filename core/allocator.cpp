#include "duet/core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

#include "duet/core/error.h"
#include "duet/core/trace.h"

namespace duet {
namespace {

constexpr size_t alignment = 64;
// Under AddressSanitizer nothing is cached, so that overflows and use after free are seen.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool caching = false;
#else
constexpr bool caching = true;
#endif

}  // namespace

// Four classes per power of two: at most a quarter of a block is wasted.
size_t CachingAllocator::size_class(size_t bytes) {
  if (bytes <= 512) return std::max(alignment, (bytes + alignment - 1) / alignment * alignment);
  const size_t step = std::bit_floor(bytes) / 4;
  return (bytes + step - 1) / step * step;
}

void* CachingAllocator::allocate(size_t bytes) {
  check(bytes <= std::numeric_limits<size_t>::max() / 4, "allocator", "out of memory: ", bytes, " bytes wanted");
  const size_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  ++stats_.requests;
  auto& blocks = cached_[size];
  void* block = nullptr;
  if (!blocks.empty()) {
    block = blocks.back();
    blocks.pop_back();
  } else {
    block = source_.take(size, index_);
    if (block == nullptr && trims_) {
      free_cached();  // blocks of other sizes may be what is missing
      block = source_.take(size, index_);
    }
    check(block != nullptr, "allocator", "out of ", source_.name, " memory: ", size, " bytes wanted",
          *OpScope::current() ? text(" by ", OpScope::current()) : "", ", ", stats_.in_use_bytes, " bytes in use and ",
          stats_.reserved_bytes - stats_.in_use_bytes,
          " cached; try a smaller --batch, --recompute, or on a GPU --no-graphs");
    ++stats_.system_allocations;
    stats_.reserved_bytes += static_cast<int64_t>(size);
  }
  stats_.in_use_bytes += static_cast<int64_t>(size);
  stats_.peak_in_use_bytes = std::max(stats_.peak_in_use_bytes, stats_.in_use_bytes);
  if (tracing()) trace_memory(source_.name, index_, stats_.in_use_bytes);
  return block;
}

void CachingAllocator::release(void* block, size_t bytes) {
  const size_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  stats_.in_use_bytes -= static_cast<int64_t>(size);
  if (tracing()) trace_memory(source_.name, index_, stats_.in_use_bytes);
  if (caching && !closed_) {
    cached_[size].push_back(block);
  } else {
    source_.give_back(block, index_);
    stats_.reserved_bytes -= static_cast<int64_t>(size);
  }
}

void CachingAllocator::trim() {
  const std::lock_guard lock(mutex_);
  if (trims_) free_cached();
}

void CachingAllocator::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  free_cached();
}

void CachingAllocator::free_cached() {
  for (auto& [size, blocks] : cached_) {
    for (void* block : blocks) source_.give_back(block, index_);
    stats_.reserved_bytes -= static_cast<int64_t>(size * blocks.size());
    blocks.clear();
  }
}

CachingAllocator::~CachingAllocator() {
  close();
}

AllocatorStats CachingAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_in_use_bytes = stats_.in_use_bytes;
}

MemorySource cpu_memory() {
  return {"CPU",
          [](size_t bytes, int) {
            // Large tensors in pages of 2 MiB: matrix products walk over rows that lie pages apart, and a page table
            // with 512 times fewer entries makes them 2 % faster. The advice may be refused, which changes nothing else.
            constexpr size_t huge_page = size_t{2} << 20;
            const bool large = bytes >= huge_page;
            void* block = std::aligned_alloc(large ? huge_page : alignment, bytes);
            if (large && block != nullptr) madvise(block, bytes / huge_page * huge_page, MADV_HUGEPAGE);
            return block;
          },
          [](void* block, int) { std::free(block); }};
}

CachingAllocator& cpu_allocator() {
  // Never destroyed: tensors with static lifetime may outlive any other static object.
  static auto* allocator = new CachingAllocator(cpu_memory());
  return *allocator;
}

}  // namespace duet
