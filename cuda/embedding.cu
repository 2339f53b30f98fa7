#include "duet/ops/embedding.h"

#include "duet/cuda/column_sum.cuh"

namespace duet {
namespace cuda {
namespace {

// A block per id. An id outside the vocabulary is reported, and its row is zero.
template <class T, class Index>
__global__ void embedding_kernel(const Index* ids, Rows<const T> weight, T* y, Fault* fault) {
  const int64_t i = blockIdx.x, id = ids[i];
  const bool valid = id >= 0 && id < weight.count;
  if (!valid && threadIdx.x == 0) report(fault, Finding::id, id, i, weight.count);
  for (int64_t c = threadIdx.x; c < weight.width; c += blockDim.x)
    y[i * weight.width + c] = valid ? weight.row(id)[c] : from_float<T>(0.0f);
}

// The gradient without atomics: block (b, s) owns the ids that are b modulo the number of blocks, and adds up their
// rows of dy in the order of their positions, among those of stretch s. Sums therefore repeat bit for bit, and with a
// single stretch they are the CPU's.
constexpr int found_most = 1024;
constexpr int found_ahead = 8;  // rows of dy that a thread has on their way at a time
template <class T, class Index>
__global__ void embedding_backward_kernel(const Index* ids, int64_t count, int64_t per_stretch, int64_t padding_idx,
                                          const T* dy, int64_t vocabulary, int64_t width, float* dweight) {
  __shared__ int64_t found[found_most], found_ids[found_most];
  __shared__ int found_count;
  __shared__ int warp_counts[block_threads / warp];
  const int64_t first = blockIdx.y * per_stretch;
  const int64_t last = first + per_stretch < count ? first + per_stretch : count;
  float* mine = dweight + blockIdx.y * vocabulary * width;
  const int lane = static_cast<int>(threadIdx.x) % warp, my_warp = static_cast<int>(threadIdx.x) / warp;
  for (int64_t begin = first; begin < last;) {
    if (threadIdx.x == 0) found_count = 0;
    __syncthreads();
    // Collect positions in order until the list might overflow.
    while (begin < last && found_count <= found_most - block_threads) {
      const int64_t i = begin + threadIdx.x;
      const int64_t id = i < last ? static_cast<int64_t>(ids[i]) : -1;
      const bool wanted = id >= 0 && id < vocabulary && id != padding_idx && id % gridDim.x == blockIdx.x;
      const unsigned votes = __ballot_sync(all_lanes, wanted);
      if (lane == 0) warp_counts[my_warp] = __popc(votes);
      __syncthreads();
      int place = found_count + __popc(votes & ((1u << lane) - 1)), total = 0;
      for (int w = 0; w < block_threads / warp; ++w) {
        if (w < my_warp) place += warp_counts[w];
        total += warp_counts[w];
      }
      if (wanted) {
        found[place] = i;
        found_ids[place] = id;
      }
      __syncthreads();
      if (threadIdx.x == 0) found_count += total;
      __syncthreads();
      begin += block_threads;
    }
    // A thread keeps its column's running sum in a register while the id stays the same.
    const int n = found_count;
    for (int64_t c = threadIdx.x; c < width; c += block_threads) {
      int64_t id = -1;
      float sum = 0;
      for (int k = 0; k < n; k += found_ahead) {
        float v[found_ahead];
#pragma unroll
        for (int j = 0; j < found_ahead; ++j) v[j] = k + j < n ? to_float(dy[found[k + j] * width + c]) : 0.0f;
#pragma unroll
        for (int j = 0; j < found_ahead; ++j) {
          if (k + j >= n) break;
          const int64_t next = found_ids[k + j];
          if (next != id) {
            if (id >= 0) mine[id * width + c] = sum;
            id = next;
            sum = mine[id * width + c];
          }
          sum += v[j];
        }
      }
      if (id >= 0) mine[id * width + c] = sum;
    }
    __syncthreads();
  }
}

template <class T>
__global__ void add_stretches_kernel(const float* partials, int64_t stretches, int64_t n, T* dweight) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float total = to_float(dweight[i]);
  for (int64_t s = 0; s < stretches; ++s) total += partials[s * n + i];
  dweight[i] = from_float<T>(total);
}

}  // namespace
}  // namespace cuda

namespace ops {

template <class T, class Index>
void embedding_forward(CudaContext context, const Index* ids, int64_t count, Rows<const T> weight, T* y) {
  cuda::launch(context, "embedding", cuda::embedding_kernel<T, Index>, dim3(static_cast<unsigned>(count)), dim3(128),
               ids, weight, y, cuda::context_of(context).fault);
}

template <class T, class Index>
void embedding_backward(CudaContext context, const Index* ids, int64_t count, int64_t padding_idx, const T* dy,
                        Rows<T> dweight) {
  const int64_t vocabulary = dweight.count, width = dweight.width;
  if (count == 0 || vocabulary == 0 || width == 0) return;
  // Few ids are each found often, so their positions are split into stretches; many ids share out the work by
  // themselves.
  const int64_t blocks = std::min<int64_t>(vocabulary, 1024);
  const int64_t stretches = std::max<int64_t>(1, std::min<int64_t>(count / 256, 512 / blocks));
  const Device device{DeviceKind::cuda, context.index};
  const bool direct = std::is_same_v<T, float> && stretches == 1;
  Tensor partials;
  float* target = nullptr;
  if (direct) {
    target = reinterpret_cast<float*>(dweight.data);
  } else {
    partials = Tensor::zeros({stretches, vocabulary, width}, DType::f32, device);
    target = partials.data<float>();
  }
  cuda::launch(context, "embedding_backward", cuda::embedding_backward_kernel<T, Index>,
               dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(stretches)), dim3(cuda::block_threads), ids,
               count, (count + stretches - 1) / stretches, padding_idx, dy, vocabulary, width, target);
  if (!direct)
    cuda::launch(context, "embedding_backward_sum", cuda::add_stretches_kernel<T>,
                 cuda::blocks_for(vocabulary * width, 256, 1 << 30), dim3(256), static_cast<const float*>(target),
                 stretches, vocabulary * width, dweight.data);
}

#define DUET_INSTANTIATE(T, I)                                                              \
  template void embedding_forward<T, I>(CudaContext, const I*, int64_t, Rows<const T>, T*); \
  template void embedding_backward<T, I>(CudaContext, const I*, int64_t, int64_t, const T*, Rows<T>);
DUET_INSTANTIATE(float, int32_t)
DUET_INSTANTIATE(float, int64_t)
DUET_INSTANTIATE(bf16, int32_t)
DUET_INSTANTIATE(bf16, int64_t)

}  // namespace ops
}  // namespace duet
