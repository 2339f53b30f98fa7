#include "duet/ops/gemm.h"

#include <oneapi/dnnl/dnnl.h>
#include <Eigen/Core>
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

namespace duet::ops {
namespace {

// Empty products still have to scale c.
template <class T>
void scale_rows(int64_t m, int64_t n, T beta, Matrix<T> c) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c.data[i * c.stride + j] = beta == 0 ? T(0) : beta * c.data[i * c.stride + j];
}

// The kernels of packed products where they are faster than oneDNN's, or null. Those read an operand as it lies unless
// it has to be transposed, and are slow where its rows fall into the same places of the cache.
const detail::PackedGemm* packed_gemm_for([[maybe_unused]] int64_t m, [[maybe_unused]] int64_t n,
                                          [[maybe_unused]] int64_t k, [[maybe_unused]] Matrix<const float> a,
                                          [[maybe_unused]] Matrix<const float> b) {
#ifdef DUET_X86_KERNELS
  static const bool available = [] {
    const char* value = std::getenv("DUET_CPU_PACKED");
    return cpu_instructions() == CpuInstructions::avx512 && (value == nullptr || std::string_view(value) != "0");
  }();
  constexpr int64_t least_rows = 256, least_columns = 128, least_work = 10'000'000, aliasing = 4096 / sizeof(float);
  if (!available || m < least_rows || n < least_columns || m * n * k < least_work) return nullptr;
  if (b.transposed || b.stride % aliasing == 0 || a.stride % aliasing == 0) return &detail::avx512_packed_gemm;
#endif
  return nullptr;
}

// The rows of one thread's part.
class SharedRows final : public detail::RowSharing {
 public:
  void start() { running_.store(true, std::memory_order_release); }
  void finish() { running_.store(false, std::memory_order_release); }
  bool running() const { return running_.load(std::memory_order_acquire); }

  void open(const detail::PackedBlock& block, int64_t panels) override {
    rows_.deal(panels);
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
  bool help(const detail::PackedGemm& packed) {
    if (block_.load(std::memory_order_relaxed) == nullptr) return false;
    bool helped = false;
    helpers_.fetch_add(1);
    if (const detail::PackedBlock* block = block_.load())
      for (int64_t p; (p = rows_.take(helper)) >= 0; helped = true) packed.rows(*block, p);
    helpers_.fetch_sub(1);
    return helped;
  }

 private:
  std::atomic<bool> running_{false};
  enum Who { owner, helper };
  WorkShares rows_{1};
  std::atomic<const detail::PackedBlock*> block_{nullptr};
  alignas(64) std::atomic<int> helpers_{0};
};

// Until the other parts are done too, or have had nothing to give for longer than their first columns take, whose rows
// are not all there yet.
void help_others(const detail::PackedGemm& packed, std::deque<SharedRows>& parts) {
  constexpr auto patience = std::chrono::milliseconds(2);
  auto last = std::chrono::steady_clock::now();
  for (;;) {
    bool running = false, helped = false;
    for (SharedRows& part : parts)
      if (part.running()) {
        running = true;
        helped |= part.help(packed);
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

// c = a b + bias or c += a b. Threads have rectangles of c of a shape that has them pack the least.
void packed_gemm(const detail::PackedGemm& packed, int64_t m, int64_t n, int64_t k, Matrix<const float> a,
                 Matrix<const float> b, const float* bias, bool adds, Matrix<float> c) {
  constexpr int64_t vector = 16;
  const int64_t parts = threads(), groups = (n + vector - 1) / vector;
  int64_t down = 1;
  for (int64_t d = 2; d <= parts; ++d)
    if (parts % d == 0 && m / d + n / (parts / d) < m / down + n / (parts / down)) down = d;
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
      packed.run(rows, columns, k, {a.data + row * (a.transposed ? 1 : a.stride), a.stride, a.transposed},
                 {b.data + column * (b.transposed ? b.stride : 1), b.stride, b.transposed},
                 bias == nullptr ? nullptr : bias + column, adds, {c.data + row * c.stride + column, c.stride},
                 scratch.data<float>() + part * most, rows_of);
      rows_of.finish();
    }
    help_others(packed, sharing);
  });
}

}  // namespace

template <>
void gemm<float>(CpuContext, int64_t m, int64_t n, int64_t k, float alpha, Matrix<const float> a, Matrix<const float> b,
                 float beta, Matrix<float> c) {
  if (m == 0 || n == 0) return;
  if (k == 0) return scale_rows(m, n, beta, c);
  if (const auto* packed = packed_gemm_for(m, n, k, a, b); packed && alpha == 1 && (beta == 0 || beta == 1))
    return packed_gemm(*packed, m, n, k, a, b, nullptr, beta == 1, c);
  // oneDNN's own division of the work among threads packs operands together behind barriers and loses up to 20 % for
  // long k. Here each thread has a product of its own, over some of the columns where b has to be transposed on the
  // way, which costs the most, unless they are too few for oneDNN's blocks; and else over some of the rows.
  const auto part = [&](int64_t rows, int64_t columns, const float* left, const float* right, float* out) {
    const dnnl_status_t status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', rows, columns, k, alpha,
                                            left, a.stride, right, b.stride, beta, out, c.stride);
    check(status == dnnl_success, "gemm", "oneDNN failed with status ", static_cast<int>(status), " for (", rows, ", ",
          k, ") by (", k, ", ", columns, ")");
  };
  constexpr int64_t least_work = 1 << 20, vector = 16, few_rows = 96, many_columns = 256;
  // Where oneDNN does not have to transpose, smaller parts cost it nothing at the sizes measured.
  const int64_t per_thread = a.transposed || b.transposed ? 1 : 4;
  if (b.transposed && n >= (m < few_rows ? 4 * vector : many_columns))
    parallel_for(
        n / vector, std::max<int64_t>(2, least_work / vector / (m * k)),
        [&](int64_t begin, int64_t end) {
          const int64_t first = begin * vector, last = end == n / vector ? n : end * vector;
          part(m, last - first, a.data, b.data + first * b.stride, c.data + first);
        },
        per_thread);
  else
    parallel_for(
        m, std::max<int64_t>(48, least_work / (n * k)),
        [&](int64_t begin, int64_t end) {
          part(end - begin, n, a.data + begin * (a.transposed ? 1 : a.stride), b.data, c.data + begin * c.stride);
        },
        per_thread);
}

bool gemm_with_bias(CpuContext context, int64_t m, int64_t n, int64_t k, Matrix<const float> a, Matrix<const float> b,
                    const float* bias, Matrix<float> c) {
  const auto* packed = packed_gemm_for(m, n, k, a, b);
  if (packed == nullptr) {
    gemm<float>(context, m, n, k, 1, a, b, 0, c);
    return bias == nullptr;
  }
  packed_gemm(*packed, m, n, k, a, b, bias, false, c);
  return true;
}

template <>
void gemm<double>(CpuContext, int64_t m, int64_t n, int64_t k, double alpha, Matrix<const double> a,
                  Matrix<const double> b, double beta, Matrix<double> c) {
  if (m == 0 || n == 0) return;
  if (k == 0) return scale_rows(m, n, beta, c);
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using View = Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>;
  parallel_for(
      m, std::max<int64_t>(8, (1 << 18) / (n * k)),
      [&](int64_t begin, int64_t end) {
        const int64_t rows = end - begin;
        const View A(a.data + begin * (a.transposed ? 1 : a.stride), a.transposed ? k : rows, a.transposed ? rows : k,
                     Eigen::OuterStride<>(a.stride));
        const View B(b.data, b.transposed ? n : k, b.transposed ? k : n, Eigen::OuterStride<>(b.stride));
        Eigen::Map<RowMajor, 0, Eigen::OuterStride<>> C(c.data + begin * c.stride, rows, n,
                                                        Eigen::OuterStride<>(c.stride));
        if (beta == 0)
          C.setZero();
        else if (beta != 1)
          C *= beta;
        if (a.transposed && b.transposed)
          C.noalias() += alpha * (A.transpose() * B.transpose());
        else if (a.transposed)
          C.noalias() += alpha * (A.transpose() * B);
        else if (b.transposed)
          C.noalias() += alpha * (A * B.transpose());
        else
          C.noalias() += alpha * (A * B);
      },
      1);
}

template <class T>
void gemm_batched(CpuContext context, int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, bool transpose_a,
                  const T* b, bool transpose_b, T* c) {
  const auto product = [&](int64_t i) {
    gemm<T>(context, m, n, k, 1, {a + i * m * k, transpose_a ? m : k, transpose_a},
            {b + i * k * n, transpose_b ? k : n, transpose_b}, 0, {c + i * m * n, n});
  };
  // Many small products side by side; few large ones with all threads in each.
  const int64_t work = std::max<int64_t>(1, m * n * k);
  parallel_for(batch, batch >= 2 * threads() ? std::max<int64_t>(1, (1 << 17) / work) : batch,
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) product(i);
               });
}

#define DUET_INSTANTIATE(T) \
  template void gemm_batched<T>(CpuContext, int64_t, int64_t, int64_t, int64_t, const T*, bool, const T*, bool, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)

}  // namespace duet::ops
