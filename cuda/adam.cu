#include "duet/train/adam_kernel.h"

#include "duet/cuda/device.cuh"

namespace duet {
namespace cuda {
namespace {

// Tensors are passed to the kernel by value, as many at a time as fit into its arguments (4 KB).
constexpr int slots_most = 48;
constexpr int64_t chunk_size = 1 << 14;  // elements of a block

template <class Slot>
struct Chunked {
  Slot slots[slots_most];
  int first_block[slots_most + 1];  // of each slot
  int count;
};

// Finds the block's slot and its stretch of elements.
template <class Slot>
__device__ int find_slot(const Chunked<Slot>& c, int64_t& begin, int64_t& end) {
  const int block = static_cast<int>(blockIdx.x);
  int s = 0;
  while (c.first_block[s + 1] <= block) ++s;
  begin = (block - c.first_block[s]) * chunk_size;
  end = begin + chunk_size < c.slots[s].count ? begin + chunk_size : c.slots[s].count;
  return s;
}

// Calls f(chunked, blocks before, blocks) for as many launches as it takes.
template <class Slot, class F>
void for_chunked(const std::vector<Slot>& slots, F&& f) {
  int64_t before = 0;
  for (size_t i = 0; i < slots.size();) {
    Chunked<Slot> c{};
    int blocks = 0;
    for (; i < slots.size() && c.count < slots_most; ++i) {
      if (slots[i].count == 0) continue;
      c.slots[c.count] = slots[i];
      c.first_block[c.count++] = blocks;
      blocks += static_cast<int>((slots[i].count + chunk_size - 1) / chunk_size);
    }
    for (int s = c.count; s <= slots_most; ++s) c.first_block[s] = blocks;
    if (blocks > 0) f(c, before, blocks);
    before += blocks;
  }
}

using Slot = train::AdamSlot<float>;

// Bytes per element: four read, three written, four each. What is the same for all elements is computed in double and
// rounded once, as on the CPU.
__global__ void adam_kernel(Chunked<Slot> c, train::AdamConstants constants, const train::AdamStep* step,
                            train::Clip clip) {
  int64_t begin, end;
  const Slot& slot = c.slots[find_slot(c, begin, end)];
  const double rate = step->rate * slot.rate_scale;
  const float shrink = static_cast<float>(constants.decoupled ? 1 - rate * slot.decay : 1.0);
  const float l2 = static_cast<float>(constants.decoupled ? 0.0 : slot.decay);
  const float step_size = static_cast<float>(rate / step->correction1);
  const float root = static_cast<float>(1 / step->correction2), eps = static_cast<float>(constants.eps);
  const double wanted = clip.norm == nullptr || clip.max_norm == 0 ? 1 : clip.max_norm / (*clip.norm + 1e-6);
  const float scale = static_cast<float>(wanted < 1 && isfinite(*clip.norm) ? wanted : 1.0);
  const float rest1 = static_cast<float>(1 - constants.beta1), rest2 = static_cast<float>(1 - constants.beta2);
  const float beta2 = static_cast<float>(constants.beta2);
  const auto update = [&](float& theta, float& m, float& v, float gradient) {
    const float g = scale * gradient + l2 * theta;
    m += rest1 * (g - m);
    v = beta2 * v + rest2 * g * g;
    theta = theta * shrink - step_size * m / (sqrtf(v) * root + eps);
  };
  // Chunks start at multiples of 16 bytes of tensors that the allocator aligned.
  int64_t i = begin + static_cast<int64_t>(threadIdx.x) * 4;
  for (; i + 4 <= end; i += static_cast<int64_t>(blockDim.x) * 4) {
    float theta[4], m[4], v[4], g[4];
    load<4>(slot.theta + i, theta);
    load<4>(slot.exp_avg + i, m);
    load<4>(slot.exp_avg_sq + i, v);
    load<4>(slot.gradient + i, g);
#pragma unroll
    for (int j = 0; j < 4; ++j) update(theta[j], m[j], v[j], g[j]);
    store<4>(theta, slot.theta + i);
    store<4>(m, slot.exp_avg + i);
    store<4>(v, slot.exp_avg_sq + i);
  }
  for (; i < end; ++i)  // fewer than four are left, and one thread has them
    update(slot.theta[i], slot.exp_avg[i], slot.exp_avg_sq[i], slot.gradient[i]);
}

constexpr int norm_threads = 256;
__global__ void squares_kernel(Chunked<train::GradientSpan<float>> c, double* squares) {
  int64_t begin, end;
  const float* g = c.slots[find_slot(c, begin, end)].data;
  double total = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += norm_threads) total += static_cast<double>(g[i]) * g[i];
  total = row_reduce<norm_threads>(total, Sum{});
  if (threadIdx.x == 0) squares[blockIdx.x] = total;
}

__global__ void norm_kernel(const double* squares, int64_t n, double* norm) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < n; i += norm_threads) total += squares[i];
  total = row_reduce<norm_threads>(total, Sum{});
  if (threadIdx.x == 0) *norm = sqrt(total);
}

}  // namespace
}  // namespace cuda

namespace train {

template <>
void adam_update<float>(CudaContext context, const std::vector<AdamSlot<float>>& slots, const AdamConstants& constants,
                        const AdamStep* step, const Clip& clip) {
  for (const AdamSlot<float>& s : slots)
    check(cuda::aligned16(s.theta, s.exp_avg, s.exp_avg_sq, s.gradient), "adam",
          "a parameter's memory is not aligned to 16 bytes");
  cuda::for_chunked(slots, [&](const auto& chunked, int64_t, int blocks) {
    cuda::launch(context, "adam", cuda::adam_kernel, dim3(static_cast<unsigned>(blocks)), dim3(256), chunked, constants,
                 step, clip);
  });
}

template <>
void gradient_norm<float>(CudaContext context, const std::vector<GradientSpan<float>>& spans, double* norm) {
  int64_t total = 0;
  cuda::for_chunked(spans, [&](const auto&, int64_t, int blocks) { total += blocks; });
  const Tensor squares = Tensor::empty(Shape{total}, DType::f64, {DeviceKind::cuda, context.index});
  double* sums = squares.data<double>();
  cuda::for_chunked(spans, [&](const auto& chunked, int64_t before, int blocks) {
    cuda::launch(context, "gradient_squares", cuda::squares_kernel, dim3(static_cast<unsigned>(blocks)),
                 dim3(cuda::norm_threads), chunked, sums + before);
  });
  cuda::launch(context, "gradient_norm", cuda::norm_kernel, dim3(1), dim3(cuda::norm_threads),
               static_cast<const double*>(sums), total, norm);
}

}  // namespace train
}  // namespace duet
