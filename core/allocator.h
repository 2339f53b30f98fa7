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

// Keeps freed blocks by size class, because a training step asks for the same sizes again and again and fresh pages
// from the system must be zeroed and faulted in. Blocks are 64-byte aligned. Thread-safe.
class CachingAllocator {
 public:
  ~CachingAllocator();
  void* allocate(size_t bytes);  // throws Error when the system has no memory left, even without the cache
  void release(void* block, size_t bytes);
  void trim();  // gives cached blocks back to the system
  AllocatorStats stats() const;
  void reset_peak();

 private:
  static size_t size_class(size_t bytes);
  void free_cached();  // the mutex is held

  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> cached_;
  AllocatorStats stats_;
};

CachingAllocator& cpu_allocator();

}  // namespace duet
