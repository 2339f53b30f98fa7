#include <array>
#include <memory>
#include <mutex>

#include "duet/cuda/check.h"
#include "duet/cuda/context.h"
#include "duet/cuda/launch.h"

namespace duet {
namespace cuda {

bool synchronous_launches() {
  static const bool wanted = [] {
    const char* value = std::getenv("DUET_CUDA_SYNCHRONIZE");
    return value != nullptr && *value == '1';
  }();
  return wanted;
}

namespace {

void* take(size_t bytes, int index) {
  context_of({index});
  void* block = nullptr;
  if (cudaMalloc(&block, bytes) == cudaSuccess) return block;
  cudaGetLastError();  // the allocator frees its cache and asks again, or explains
  return nullptr;
}

void give_back(void* block, int index) {
  // Work that still uses the block may be under way; cudaFree waits for it.
  const UseDevice use(index);
  if (use.usable()) cudaFree(block);
}

struct Pool {
  int index = -1;
  CachingAllocator* allocator = nullptr;
};
thread_local Pool current_pool;

}  // namespace

bool recording() {
  return current_pool.allocator != nullptr;
}

MemorySource device_memory() {
  return {"GPU", take, give_back, 0};
}

UsePool::UsePool(int index, CachingAllocator& pool) {
  check(current_pool.allocator == nullptr, "cuda", "one graph is being recorded already");
  current_pool = {index, &pool};
}
UsePool::~UsePool() {
  current_pool = {};
}

}  // namespace cuda

CachingAllocator& allocator(CudaContext context) {
  if (cuda::current_pool.allocator != nullptr && cuda::current_pool.index == context.index)
    return *cuda::current_pool.allocator;
  static std::array<CachingAllocator*, 64> allocators{};
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  CachingAllocator*& mine = allocators.at(static_cast<size_t>(context.index));
  if (mine == nullptr) mine = new CachingAllocator(cuda::device_memory(), context.index);
  return *mine;
}

}  // namespace duet
