#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>

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

namespace detail {
void run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* state);
}

// Calls f(begin, end) over a fixed partition of [0, n) into at most threads() chunks of at least `grain` items. The
// partition depends on n, grain and the thread count only, so results repeat bit for bit. When f throws, the other
// chunks still run and the exception of the first chunk (in order) comes out. Inside f, threads() is 1.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  const int64_t chunks = std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, threads());
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
