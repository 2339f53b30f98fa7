#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace duet {

struct AllocatorStats {
  int64_t in_use_bytes = 0;        // handed out now
  int64_t peak_in_use_bytes = 0;   // most ever handed out since the last reset
  int64_t reserved_bytes = 0;      // taken from the system, in use or cached
  int64_t requests = 0;            // calls of allocate
  int64_t system_allocations = 0;  // requests that the cache could not serve
};

// Where a caching allocator takes its blocks from.
struct MemorySource {
  const char* name;            // for messages: "CPU"
  void* (*take)(size_t, int);  // null when there is no memory left; the int is the device's index
  void (*give_back)(void*, int);
  // Large blocks are cut from pieces of at least so many bytes, and small ones from slabs; 0 = each is taken by itself.
  size_t segment;
};

// Keeps freed blocks, because a training step asks for the same sizes again and again and fresh pages from the system
// must be zeroed and faulted in. Small ones are cut from slabs and kept by size class. Large ones are cut from
// segments, and neighbours that are free grow together again: a step's activations leave their memory to its gradients,
// whose sizes differ. Blocks are 64-byte aligned. Thread-safe.
class CachingAllocator {
 public:
  // With `trims` false blocks are never given back before close(): somebody may use them without holding them, as a
  // recorded graph does.
  explicit CachingAllocator(MemorySource source, int index = 0, bool trims = true)
      : source_(source), index_(index), trims_(trims) {}
  ~CachingAllocator();
  void* allocate(size_t bytes);  // throws Error when the system has no memory left, even without the cache
  void release(void* block, size_t bytes);
  // Gives cached blocks back to the system: large ones when their whole segment is free, small ones cut from slabs when
  // nothing at all is used any more.
  void trim();
  // Gives cached blocks back, and from now on those that are released too.
  void close();
  AllocatorStats stats() const;
  void reset_peak();

 private:
  // A stretch of a segment, from its address in `pieces_` on.
  struct Piece {
    size_t size;
    char* segment;
    bool free;
  };
  using Pieces = std::map<char*, Piece>;

  static size_t size_class(size_t bytes);
  // All below: the mutex is held.
  bool has_slabs() const;
  bool cut_from_segments(size_t bytes) const;
  void* take(size_t bytes, size_t wanted);  // from the system, or throws and says what was wanted
  void count(int64_t bytes);                // handed out, or taken back when negative
  void* allocate_small(size_t size, size_t wanted);
  void* allocate_piece(size_t bytes);
  bool release_piece(void* block);  // false when it is no piece
  void free_cached();

  MemorySource source_;
  int index_;
  bool trims_;
  bool closed_ = false;
  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> cached_;  // small ones, by size class
  struct Slab {
    char* memory;
    size_t bytes;
  };
  std::vector<Slab> slabs_;
  size_t slab_left_ = 0;                            // bytes at the beginning of the last slab that nobody has had
  Pieces pieces_;                                   // of all segments
  std::set<std::pair<size_t, char*>> free_pieces_;  // by size
  AllocatorStats stats_;
};

// While it lives and `on`, large blocks that this thread asks for are cut from the end of the largest free stretch: for
// what outlives everything around it, so that blocks of both kinds do not come to lie between each other.
class LastingBlocks {
 public:
  explicit LastingBlocks(bool on) : before_(active_) { active_ = on; }
  ~LastingBlocks() { active_ = before_; }
  LastingBlocks(const LastingBlocks&) = delete;
  LastingBlocks& operator=(const LastingBlocks&) = delete;
  static bool active() { return active_; }

 private:
  static thread_local bool active_;
  bool before_;
};

MemorySource cpu_memory();
CachingAllocator& cpu_allocator();

}  // namespace duet
