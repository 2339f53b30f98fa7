#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace duet {

// Number of compute threads for kernels and matmuls, the calling one included. The default is the machine's core count,
// or OMP_NUM_THREADS. Not to be changed while a loop runs.
void set_threads(int count);
int threads();

// Between two looks at what another thread will change.
inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// [0, n) dealt out to threads: each takes from the front of a share of its own, so that it meets the same data in one
// loop after the other, and when that is empty from the back of the others'. n below 2^32.
class WorkShares {
 public:
  explicit WorkShares(int count) : shares_(static_cast<size_t>(count)) {}

  // Not while anybody takes.
  void deal(int64_t n);
  // The next number for this thread, or -1 when none is left. One without a share, a number not below `count`, takes
  // from the back of all.
  int64_t take(int thread);

 private:
  struct alignas(64) Share {
    std::atomic<uint64_t> range{0};  // the first number that is left, and the one behind the last
  };
  std::vector<Share> shares_;
};

namespace detail {
void run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* state);
}

// Calls f(begin, end) over a fixed partition of [0, n) into at most `per_thread` times threads() chunks of at least
// `grain` items. The partition depends on these numbers and the thread count only, so results repeat bit for bit.
// Several chunks per thread, since cores are seldom equally free, and the slowest thread keeps all others waiting; one
// where dividing the work makes more of it. When f throws, the other chunks still run and the exception of the first
// chunk (in order) comes out. Inside f, threads() is 1.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f, int64_t per_thread = 4) {
  if (n <= 0) return;
  const int64_t most = threads() == 1 ? 1 : threads() * per_thread;
  const int64_t chunks = std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, most);
  if (chunks == 1) return f(int64_t{0}, n);
  struct State {
    F* f;
    int64_t n, chunks;
  } state{&f, n, chunks};
  detail::run_chunks(
      chunks,
      [](void* raw, int64_t i) {
        const auto& s = *static_cast<State*>(raw);
        (*s.f)(s.n * i / s.chunks, s.n * (i + 1) / s.chunks);
      },
      &state);
}

}  // namespace duet
