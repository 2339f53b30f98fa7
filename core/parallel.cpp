#include "duet/core/parallel.h"

#include <omp.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "duet/core/error.h"
#include "duet/core/thread_name.h"

// A pool of our own rather than OpenMP's: its threads spin for a moment, since a step's parallel loops follow each
// other closely, and then sleep. OpenMP's either spin for milliseconds, which takes the cores from threads that load
// data and from other programs, or sleep at once, which costs a tenth of a small model's step.
namespace duet {
namespace {

// Libraries must not start threads of their own besides ours, so OpenMP's number is taken over and then set to one.
int thread_count = [] {
  const int count = omp_get_max_threads();
  omp_set_num_threads(1);
  return count;
}();
thread_local bool inside = false;  // a loop's body runs on this thread

uint64_t packed_range(int64_t begin, int64_t end) {
  return static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(end);
}

// Returns when value is no longer `old`: looks for a while, then sleeps.
template <class T>
void await_change(const std::atomic<T>& value, T old) {
  constexpr auto patience = std::chrono::microseconds(50);
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      cpu_pause();
    }
  } while (std::chrono::steady_clock::now() - start < patience);
  value.wait(old, std::memory_order_acquire);
}

class Pool {
 public:
  explicit Pool(int count) : shares_(count) {
    for (int i = 1; i < count; ++i) threads_.emplace_back([this, i] { work(i); });
  }
  ~Pool() {
    body_ = nullptr;
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // One loop at a time. The calling thread takes part.
  void run(int64_t chunks, void (*body)(void*, int64_t), void* state, std::exception_ptr* thrown) {
    shares_.deal(chunks);
    body_ = body;
    state_ = state;
    thrown_ = thrown;
    running_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    run_share(0);
    for (int left = running_.load(std::memory_order_acquire); left > 0; left = running_.load(std::memory_order_acquire))
      await_change(running_, left);
  }

 private:
  void run_share(int index) {
    inside = true;
    for (int64_t i; (i = shares_.take(index)) >= 0;) {
      try {
        body_(state_, i);
      } catch (...) {
        thrown_[i] = std::current_exception();
      }
    }
    inside = false;
  }

  void work(int index) {
    name_thread(text("compute ", index));
    omp_set_num_threads(1);
    uint32_t seen = 0;
    for (;;) {
      await_change(generation_, seen);
      seen = generation_.load(std::memory_order_acquire);
      if (body_ == nullptr) return;
      run_share(index);
      if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  WorkShares shares_;
  void (*body_)(void*, int64_t) = nullptr;
  void* state_ = nullptr;
  std::exception_ptr* thrown_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
};

std::mutex pool_mutex;
// Never destroyed at exit: other threads may still be computing.
Pool* pool = nullptr;
int pool_size = 0;

// A child process has none of the threads; what it inherits cannot be joined and is left alone.
void forget_pool() {
  pool = nullptr;
  new (&pool_mutex) std::mutex;
}

Pool& current_pool() {
  static const bool registered = pthread_atfork(nullptr, nullptr, forget_pool) == 0;
  static_cast<void>(registered);
  if (pool == nullptr || pool_size != thread_count) {
    delete pool;
    pool = new Pool(thread_count);
    pool_size = thread_count;
  }
  return *pool;
}

}  // namespace

void WorkShares::deal(int64_t n) {
  const auto count = static_cast<int64_t>(shares_.size());
  for (int64_t i = 0; i < count; ++i)
    shares_[static_cast<size_t>(i)].range.store(packed_range(n * i / count, n * (i + 1) / count),
                                                std::memory_order_relaxed);
}

int64_t WorkShares::take(int thread) {
  const size_t count = shares_.size();
  for (size_t other = 0; other < count; ++other) {
    const size_t share = (static_cast<size_t>(thread) + other) % count;
    const bool own = share == static_cast<size_t>(thread);
    std::atomic<uint64_t>& range = shares_[share].range;
    for (uint64_t left = range.load(std::memory_order_relaxed);;) {
      const auto begin = static_cast<int64_t>(left >> 32), end = static_cast<int64_t>(left & 0xFFFFFFFF);
      if (begin >= end) break;
      if (range.compare_exchange_weak(left, own ? packed_range(begin + 1, end) : packed_range(begin, end - 1),
                                      std::memory_order_relaxed))
        return own ? begin : end - 1;
    }
  }
  return -1;
}

void set_threads(int count) {
  check(count >= 1 && count <= 1024, "threads", "--threads must be between 1 and 1024, got ", count);
  thread_count = count;
}

int threads() {
  return inside ? 1 : thread_count;
}

void detail::run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* state) {
  // An exception must not end a thread of the pool, nor leave the others without an end.
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(chunks));
  if (const std::unique_lock lock(pool_mutex, std::try_to_lock); lock) {
    thread_local const bool alone = (omp_set_num_threads(1), true);  // each thread has a setting of its own
    static_cast<void>(alone);
    current_pool().run(chunks, body, state, thrown.data());
  } else {
    // Somebody else's loop has the cores; more threads would only get into its way.
    inside = true;
    for (int64_t i = 0; i < chunks; ++i) {
      try {
        body(state, i);
      } catch (...) {
        thrown[static_cast<size_t>(i)] = std::current_exception();
      }
    }
    inside = false;
  }
  for (const std::exception_ptr& e : thrown)
    if (e) std::rethrow_exception(e);
}

}  // namespace duet
