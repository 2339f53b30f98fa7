#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
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
};

// Keeps freed blocks by size class, because a training step asks for the same sizes again and again and fresh pages
// from the system must be zeroed and faulted in. Blocks are 64-byte aligned. Thread-safe.
class CachingAllocator {
 public:
  // With `trims` false blocks are never given back before close(): somebody may use them without holding them, as a
  // recorded graph does.
  explicit CachingAllocator(MemorySource source, int index = 0, bool trims = true)
      : source_(source), index_(index), trims_(trims) {}
  ~CachingAllocator();
  void* allocate(size_t bytes);  // throws Error when the system has no memory left, even without the cache
  void release(void* block, size_t bytes);
  void trim();  // gives cached blocks back to the system
  // Gives cached blocks back, and from now on those that are released too.
  void close();
  AllocatorStats stats() const;
  void reset_peak();

 private:
  static size_t size_class(size_t bytes);
  void free_cached();  // the mutex is held

  MemorySource source_;
  int index_;
  bool trims_;
  bool closed_ = false;
  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> cached_;
  AllocatorStats stats_;
};

MemorySource cpu_memory();
CachingAllocator& cpu_allocator();

}  // namespace duet
