#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <string_view>
#include <thread>

#include "duet/core/cpu.h"
#include "duet/core/parallel.h"
#include "duet/core/tensor.h"
#include "duet/ops/packed_gemm.h"

// When large products are packed, and how threads share one.
namespace duet::ops::detail {
namespace {

using ComputeRows = void (*)(const PackedBlock& block, int64_t group);

// The rows of one thread's part.
class SharedRows final : public RowSharing {
 public:
  void start() { running_.store(true, std::memory_order_release); }
  void finish() { running_.store(false, std::memory_order_release); }
  bool running() const { return running_.load(std::memory_order_acquire); }

  void open(const PackedBlock& block, int64_t groups) override {
    rows_.deal(groups);
    block_.store(&block);
  }
  int64_t take() override { return rows_.take(owner); }
  // Whoever has come before may be at work, and is waited for; whoever comes later sees none, or the next block.
  void close() override {
    constexpr int patience = 100;  // a helper that has lost its core may need this one
    block_.store(nullptr);
    for (int i = 0; helpers_.load() > 0; ++i) i < patience ? cpu_pause() : std::this_thread::yield();
  }
  // Computes rows of this part on another thread; false when there were none.
  bool help(ComputeRows compute) {
    if (block_.load(std::memory_order_relaxed) == nullptr) return false;
    bool helped = false;
    helpers_.fetch_add(1);
    if (const PackedBlock* block = block_.load())
      for (int64_t group; (group = rows_.take(helper)) >= 0; helped = true) compute(*block, group);
    helpers_.fetch_sub(1);
    return helped;
  }

 private:
  std::atomic<bool> running_{false};
  enum Who { owner, helper };
  WorkShares rows_{1};
  std::atomic<const PackedBlock*> block_{nullptr};
  alignas(64) std::atomic<int> helpers_{0};
};

// Until the other parts are done too, or have had nothing to give for longer than their first columns take, whose rows
// are not all there yet.
void help_others(ComputeRows compute, std::deque<SharedRows>& parts) {
  constexpr auto patience = std::chrono::milliseconds(2);
  auto last = std::chrono::steady_clock::now();
  for (;;) {
    bool running = false, helped = false;
    for (SharedRows& part : parts)
      if (part.running()) {
        running = true;
        helped |= part.help(compute);
      }
    if (!running) return;
    if (helped)
      last = std::chrono::steady_clock::now();
    else if (std::chrono::steady_clock::now() - last > patience)
      return;
    else
      std::this_thread::yield();
  }
}

}  // namespace

#ifdef DUET_X86_KERNELS
namespace {

// What large products are packed for; baseline when they are not to be.
CpuInstructions instructions_for_packing() {
  static const CpuInstructions result = [] {
    const char* value = std::getenv("DUET_CPU_PACKED");
    return value != nullptr && std::string_view(value) == "0" ? CpuInstructions::baseline : cpu_instructions();
  }();
  return result;
}

struct Least {
  int64_t rows, columns, work;
  bool reached(int64_t m, int64_t n, int64_t k) const { return m >= rows && n >= columns && m * n * k >= work; }
};

}  // namespace
#endif

namespace {

// The kernels for a product of this size on this processor, or null.
const PackedGemm<float, float>* float_kernels([[maybe_unused]] int64_t m, [[maybe_unused]] int64_t n,
                                              [[maybe_unused]] int64_t k) {
#ifdef DUET_X86_KERNELS
  constexpr Least large{256, 128, 10'000'000};
  if (!large.reached(m, n, k)) return nullptr;
  const CpuInstructions instructions = instructions_for_packing();
  if (instructions == CpuInstructions::avx2) return &avx2_packed_gemm;
  if (instructions == CpuInstructions::avx512) return cpu_is_intel() ? &avx512_direct_gemm : &avx512_packed_gemm;
#endif
  return nullptr;
}

}  // namespace

const PackedGemm<float, float>* packed_gemm_for(int64_t m, int64_t n, int64_t k, [[maybe_unused]] Matrix<const float> a,
                                                [[maybe_unused]] Matrix<const float> b) {
  const PackedGemm<float, float>* const kernels = float_kernels(m, n, k);
#ifdef DUET_X86_KERNELS
  // oneDNN reads an operand as it lies unless it has to be transposed, and is slow where its rows fall into the same
  // places of the cache. On Intel's processors it is the faster one for small products, where copying is more of the
  // work.
  constexpr int64_t aliasing = 4096 / sizeof(float), small = 100'000'000, small_turned = 200'000'000;
  if (b.transposed || b.stride % aliasing == 0 || a.stride % aliasing == 0) return kernels;
  if (kernels == &avx512_packed_gemm) return nullptr;
  if (kernels == &avx512_direct_gemm && m * n * k < (a.transposed ? small_turned : small)) return nullptr;
#endif
  return kernels;
}

template <class Out>
const PackedGemm<bf16, Out>* widened_gemm_for([[maybe_unused]] int64_t m, [[maybe_unused]] int64_t n,
                                              [[maybe_unused]] int64_t k) {
#ifdef DUET_X86_KERNELS
  // oneDNN would take twice as long for smaller products too.
  constexpr Least large{64, 64, 1'000'000};
  if (instructions_for_packing() == CpuInstructions::avx512 && !cpu_has_fast_bfloat16() && !cpu_has_amx_bfloat16() &&
      large.reached(m, n, k)) {
    if constexpr (std::is_same_v<Out, float>)
      return &avx512_widened_gemm_to_float;
    else
      return &avx512_widened_gemm;
  }
#endif
  return nullptr;
}

// Threads have rectangles of c of a shape that has them copy the least. A function of the left operand takes longer
// than its copy.
template <class T, class Out>
void packed_gemm(const PackedGemm<T, Out>& packed, int64_t m, int64_t n, int64_t k, Matrix<const T> a,
                 Matrix<const T> b, const float* bias, bool adds, Matrix<Out> c, SpanFunction<T> f) {
  constexpr int64_t least_work = 1 << 21;  // for a thread
  const int64_t vector = packed.columns, groups = (n + vector - 1) / vector;
  const int64_t parts = std::clamp<int64_t>(m * n * k / least_work, 1, threads());
  const int64_t row_cost = f == nullptr ? 1 : 3;
  const auto cost = [&](int64_t d) { return row_cost * m / d + n / (parts / d); };
  int64_t down = 1;
  for (int64_t d = 2; d <= parts; ++d)
    if (parts % d == 0 && cost(d) < cost(down)) down = d;
  const int64_t across = parts / down;
  const auto first_row = [&](int64_t i) { return m * i / down; };
  const auto first_column = [&](int64_t i) { return std::min(n, groups * i / across * vector); };
  // Taken by the calling thread, so that a step takes the same memory however its threads are scheduled.
  int64_t most = 0;
  for (int64_t i = 0; i < down; ++i)
    for (int64_t j = 0; j < across; ++j) {
      const int64_t rows = first_row(i + 1) - first_row(i), columns = first_column(j + 1) - first_column(j);
      if (rows > 0 && columns > 0) most = std::max(most, packed.scratch(rows, columns, k));
    }
  const Tensor scratch = Tensor::empty({parts, most}, DType::f32);
  std::deque<SharedRows> sharing(static_cast<size_t>(parts));
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t i = part / across, j = part % across, row = first_row(i), column = first_column(j);
      const int64_t rows = first_row(i + 1) - row, columns = first_column(j + 1) - column;
      if (rows == 0 || columns == 0) continue;
      SharedRows& rows_of = sharing[static_cast<size_t>(part)];
      rows_of.start();
      packed.run(rows, columns, k, f, {a.data + row * (a.transposed ? 1 : a.stride), a.stride, a.transposed},
                 {b.data + column * (b.transposed ? b.stride : 1), b.stride, b.transposed},
                 bias == nullptr ? nullptr : bias + column, adds, {c.data + row * c.stride + column, c.stride},
                 scratch.data<float>() + part * most, rows_of);
      rows_of.finish();
    }
    help_others(packed.rows, sharing);
  });
}

template const PackedGemm<bf16, bf16>* widened_gemm_for<bf16>(int64_t, int64_t, int64_t);
template const PackedGemm<bf16, float>* widened_gemm_for<float>(int64_t, int64_t, int64_t);

#define DUET_INSTANTIATE(T, Out)                                                                           \
  template void packed_gemm<T, Out>(const PackedGemm<T, Out>&, int64_t, int64_t, int64_t, Matrix<const T>, \
                                    Matrix<const T>, const float*, bool, Matrix<Out>, SpanFunction<T>);
DUET_INSTANTIATE(float, float)
DUET_INSTANTIATE(bf16, bf16)
DUET_INSTANTIATE(bf16, float)
#undef DUET_INSTANTIATE

}  // namespace duet::ops::detail

namespace duet::ops {

template <class T>
bool gemm_of(CpuContext, int64_t m, int64_t n, int64_t k, SpanFunction<T> f, Matrix<const T> a, Matrix<const T> b,
             const Wide<T>* bias, Matrix<T> c) {
  const detail::PackedGemm<T, T>* packed = nullptr;
  if constexpr (std::is_same_v<T, bf16>)
    packed = detail::widened_gemm_for<bf16>(m, n, k);
  else
    packed = detail::float_kernels(m, n, k);
  if (packed == nullptr) return false;
  detail::packed_gemm(*packed, m, n, k, a, b, bias, false, c, f);
  return true;
}

template bool gemm_of<float>(CpuContext, int64_t, int64_t, int64_t, SpanFunction<float>, Matrix<const float>,
                             Matrix<const float>, const float*, Matrix<float>);
template bool gemm_of<bf16>(CpuContext, int64_t, int64_t, int64_t, SpanFunction<bf16>, Matrix<const bf16>,
                            Matrix<const bf16>, const float*, Matrix<bf16>);

}  // namespace duet::ops
