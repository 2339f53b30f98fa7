#include <cmath>

#include "duet/core/parallel.h"
#include "duet/train/adam_kernel.h"

namespace duet::train {
namespace {

// A stretch of one tensor.
struct Chunk {
  size_t tensor;
  int64_t begin, end;
};
constexpr int64_t chunk_size = 1 << 14;

template <class Item>
std::vector<Chunk> cut(const std::vector<Item>& items) {
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < items.size(); ++i)
    for (int64_t begin = 0; begin < items[i].count; begin += chunk_size)
      chunks.push_back({i, begin, std::min(items[i].count, begin + chunk_size)});
  return chunks;
}

// Calls f(index, chunk) in parallel.
template <class F>
void for_chunks(const std::vector<Chunk>& chunks, F&& f) {
  parallel_for(static_cast<int64_t>(chunks.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) f(static_cast<size_t>(c), chunks[static_cast<size_t>(c)]);
  });
}

// Sums side by side, and what is 2 KiB ahead fetched: a core that only reads waits for memory more than one that
// computes or writes.
template <class T>
double sum_of_squares(const T* x, int64_t n) {
  constexpr int64_t lanes = 32, ahead = 2048 / sizeof(T), line = 64 / sizeof(T);
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int64_t j = 0; j < lanes; j += line) __builtin_prefetch(x + i + ahead + j);
    for (int64_t j = 0; j < lanes; ++j) sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  }
  for (; i < n; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace

template <class T>
void adam_update(CpuContext, const std::vector<AdamSlot<T>>& slots, const AdamConstants& constants,
                 const AdamStep* step, const Clip& clip) {
  const double wanted = clip.norm == nullptr || clip.max_norm == 0 ? 1 : clip.max_norm / (*clip.norm + 1e-6);
  const T scale = static_cast<T>(wanted < 1 && std::isfinite(*clip.norm) ? wanted : 1.0);
  for_chunks(cut(slots), [&](size_t, Chunk chunk) {
    const AdamSlot<T>& slot = slots[chunk.tensor];
    // 1 - beta from the doubles: in float, 1 - 0.999f is off by 5e-5 of itself.
    const T rest1 = static_cast<T>(1 - constants.beta1), rest2 = static_cast<T>(1 - constants.beta2);
    const T b2 = static_cast<T>(constants.beta2);
    const double rate = step->rate * slot.rate_scale;
    const T shrink = static_cast<T>(constants.decoupled ? 1 - rate * slot.decay : 1.0);
    const T l2 = static_cast<T>(constants.decoupled ? 0.0 : slot.decay);
    const T step_size = static_cast<T>(rate / step->correction1), root = static_cast<T>(1 / step->correction2);
    const T eps = static_cast<T>(constants.eps);
    T *theta = slot.theta, *m = slot.exp_avg, *v = slot.exp_avg_sq;
    for (int64_t i = chunk.begin; i < chunk.end; ++i) {
      const T g = scale * slot.gradient[i] + l2 * theta[i];
      m[i] += rest1 * (g - m[i]);
      v[i] = b2 * v[i] + rest2 * g * g;
      theta[i] = theta[i] * shrink - step_size * m[i] / (std::sqrt(v[i]) * root + eps);
    }
  });
}

template <class T>
void gradient_norm(CpuContext, const std::vector<GradientSpan<T>>& spans, double* norm) {
  const std::vector<Chunk> chunks = cut(spans);
  std::vector<double> squares(chunks.size());
  for_chunks(chunks, [&](size_t index, Chunk chunk) {
    const T* g = spans[chunk.tensor].data;
    squares[index] = sum_of_squares(g + chunk.begin, chunk.end - chunk.begin);
  });
  double sum = 0;
  for (const double s : squares) sum += s;  // in chunk order, whatever the thread count
  *norm = std::sqrt(sum);
}

#define DUET_INSTANTIATE(T)                                                                                        \
  template void adam_update<T>(CpuContext, const std::vector<AdamSlot<T>>&, const AdamConstants&, const AdamStep*, \
                               const Clip&);                                                                       \
  template void gradient_norm<T>(CpuContext, const std::vector<GradientSpan<T>>&, double*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)

}  // namespace duet::train
