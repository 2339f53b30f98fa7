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
// From which size on blocks are cut from segments, and to multiples of what.
constexpr size_t least_piece = size_t{128} << 10, piece_step = size_t{16} << 10;
// What smaller ones are cut from. By themselves they would come to lie between the buffers that libraries take and
// return, and break the room for these into pieces too small to be used again.
constexpr size_t slab_bytes = size_t{2} << 20;
// Under AddressSanitizer nothing is cached, so that overflows and use after free are seen.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool caching = false;
#else
constexpr bool caching = true;
#endif

}  // namespace

thread_local bool LastingBlocks::active_ = false;

// Four classes per power of two: at most a quarter of a block is wasted.
size_t CachingAllocator::size_class(size_t bytes) {
  if (bytes <= 512) return std::max(alignment, (bytes + alignment - 1) / alignment * alignment);
  const size_t step = std::bit_floor(bytes) / 4;
  return (bytes + step - 1) / step * step;
}

bool CachingAllocator::has_slabs() const {
  return caching && source_.segment > 0;
}

bool CachingAllocator::cut_from_segments(size_t bytes) const {
  return has_slabs() && bytes >= least_piece;
}

void CachingAllocator::count(int64_t bytes) {
  stats_.in_use_bytes += bytes;
  stats_.peak_in_use_bytes = std::max(stats_.peak_in_use_bytes, stats_.in_use_bytes);
  if (tracing()) trace_memory(source_.name, index_, stats_.in_use_bytes);
}

void* CachingAllocator::take(size_t bytes, size_t wanted) {
  void* block = source_.take(bytes, index_);
  if (block == nullptr && trims_) {
    free_cached();  // blocks of other sizes may be what is missing
    block = source_.take(bytes, index_);
  }
  check(block != nullptr, "allocator", "out of ", source_.name, " memory: ", wanted, " bytes wanted",
        *OpScope::current() ? text(" by ", OpScope::current()) : "", ", ", stats_.in_use_bytes, " bytes in use and ",
        stats_.reserved_bytes - stats_.in_use_bytes,
        " cached; try a smaller --batch, --recompute, or on a GPU --no-graphs");
  ++stats_.system_allocations;
  stats_.reserved_bytes += static_cast<int64_t>(bytes);
  return block;
}

void* CachingAllocator::allocate_piece(size_t bytes) {
  const size_t size = (bytes + piece_step - 1) / piece_step * piece_step;
  const bool lasting = LastingBlocks::active();
  auto fitting = free_pieces_.lower_bound({size, nullptr});
  if (lasting && fitting != free_pieces_.end()) fitting = std::prev(free_pieces_.end());
  if (fitting == free_pieces_.end()) {
    // Ever larger ones, so that little is lost at their ends. What nobody writes to costs no memory.
    const size_t wanted = std::max(source_.segment, std::bit_ceil(static_cast<size_t>(stats_.reserved_bytes) / 2));
    size_t taken = std::max(size, std::min(wanted, size_t{1} << 30));
    void* memory = taken > size ? source_.take(taken, index_) : nullptr;
    if (memory != nullptr) {
      ++stats_.system_allocations;
      stats_.reserved_bytes += static_cast<int64_t>(taken);
    } else {
      taken = size;
      memory = take(taken, bytes);
    }
    auto* const segment = static_cast<char*>(memory);
    pieces_[segment] = {taken, segment, true};
    fitting = free_pieces_.insert({taken, segment}).first;
  }
  char* address = fitting->second;
  free_pieces_.erase(fitting);
  const Piece whole = pieces_.at(address);
  const size_t rest = whole.size - size >= piece_step ? whole.size - size : 0;
  char* const left = lasting ? address : address + size;
  if (rest > 0 && lasting) address += rest;
  pieces_[address] = {whole.size - rest, whole.segment, false};
  if (rest > 0) {
    pieces_[left] = {rest, whole.segment, true};
    free_pieces_.insert({rest, left});
  }
  count(static_cast<int64_t>(whole.size - rest));
  return address;
}

bool CachingAllocator::release_piece(void* block) {
  auto piece = pieces_.find(static_cast<char*>(block));
  if (piece == pieces_.end()) return false;
  count(-static_cast<int64_t>(piece->second.size));
  piece->second.free = true;
  const auto joins = [&](Pieces::iterator a, Pieces::iterator b) {
    return a->second.free && b->second.free && a->second.segment == b->second.segment;
  };
  if (const auto next = std::next(piece); next != pieces_.end() && joins(piece, next)) {
    free_pieces_.erase({next->second.size, next->first});
    piece->second.size += next->second.size;
    pieces_.erase(next);
  }
  if (piece != pieces_.begin() && joins(std::prev(piece), piece)) {
    const auto before = std::prev(piece);
    free_pieces_.erase({before->second.size, before->first});
    before->second.size += piece->second.size;
    pieces_.erase(piece);
    piece = before;
  }
  free_pieces_.insert({piece->second.size, piece->first});
  return true;
}

void* CachingAllocator::allocate_small(size_t size, size_t wanted) {
  if (!has_slabs()) return take(size, wanted);
  if (slab_left_ < size) {
    // Where there is no room for a whole one, a slab of this block alone.
    void* memory = source_.take(slab_bytes, index_);
    const size_t taken = memory != nullptr ? slab_bytes : size;
    if (memory == nullptr) {
      memory = take(size, wanted);
    } else {
      ++stats_.system_allocations;
      stats_.reserved_bytes += static_cast<int64_t>(taken);
    }
    slabs_.push_back({static_cast<char*>(memory), taken});
    slab_left_ = taken;
  }
  slab_left_ -= size;
  return slabs_.back().memory + slab_left_;
}

void* CachingAllocator::allocate(size_t bytes) {
  check(bytes <= std::numeric_limits<size_t>::max() / 4, "allocator", "out of memory: ", bytes, " bytes wanted");
  const std::lock_guard lock(mutex_);
  ++stats_.requests;
  if (cut_from_segments(bytes)) return allocate_piece(bytes);
  const size_t size = size_class(bytes);
  std::vector<void*>& blocks = cached_[size];
  void* block = nullptr;
  if (blocks.empty()) {
    block = allocate_small(size, bytes);
  } else {
    block = blocks.back();
    blocks.pop_back();
  }
  count(static_cast<int64_t>(size));
  return block;
}

void CachingAllocator::release(void* block, size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (cut_from_segments(bytes) && release_piece(block)) {
    if (closed_) free_cached();
    return;
  }
  const size_t size = size_class(bytes);
  count(-static_cast<int64_t>(size));
  if (caching && (!closed_ || has_slabs())) {
    cached_[size].push_back(block);
    if (closed_) free_cached();
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
  if (has_slabs()) {
    // Slabs go back when nothing at all is used.
    if (stats_.in_use_bytes == 0) {
      for (const Slab& slab : slabs_) {
        source_.give_back(slab.memory, index_);
        stats_.reserved_bytes -= static_cast<int64_t>(slab.bytes);
      }
      slabs_.clear();
      cached_.clear();
      slab_left_ = 0;
    }
  } else {
    for (auto& [size, blocks] : cached_) {
      for (void* block : blocks) source_.give_back(block, index_);
      stats_.reserved_bytes -= static_cast<int64_t>(size * blocks.size());
      blocks.clear();
    }
  }
  for (auto it = pieces_.begin(); it != pieces_.end();) {
    const auto next = std::next(it);
    const auto& [address, piece] = *it;
    const bool whole = address == piece.segment && (next == pieces_.end() || next->second.segment != piece.segment);
    if (piece.free && whole) {
      free_pieces_.erase({piece.size, address});
      source_.give_back(address, index_);
      stats_.reserved_bytes -= static_cast<int64_t>(piece.size);
      pieces_.erase(it);
    }
    it = next;
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
            // with 512 times fewer entries makes them 2 % faster. The advice may be refused, which changes nothing
            // else.
            constexpr size_t huge_page = size_t{2} << 20;
            const bool large = bytes >= huge_page;
            // Not aligned_alloc, which wants the size to be a multiple of the alignment.
            void* block = nullptr;
            if (posix_memalign(&block, large ? huge_page : alignment, bytes) != 0) return static_cast<void*>(nullptr);
            if (large) madvise(block, bytes / huge_page * huge_page, MADV_HUGEPAGE);
            return block;
          },
          [](void* block, int) { std::free(block); }, size_t{64} << 20};
}

CachingAllocator& cpu_allocator() {
  // Never destroyed: tensors with static lifetime may outlive any other static object.
  static auto* allocator = new CachingAllocator(cpu_memory());
  return *allocator;
}

}  // namespace duet
