#include "duet/ops/cross_entropy.h"

#include "duet/cuda/device.cuh"
#include "duet/cuda/map.cuh"

namespace duet {
namespace cuda {
namespace {

__device__ inline bool counts(int64_t label, int64_t classes, int64_t ignore_index) {
  return label != ignore_index && label >= 0 && label < classes;
}

// totals[0] = sum of the class weights, totals[1] = that of the counted rows' labels. One block. Reports labels that
// are no class.
__global__ void weight_totals_kernel(const int64_t* labels, int64_t count, const float* weights, int64_t classes,
                                     int64_t ignore_index, double* totals, Fault* fault) {
  double all = 0, counted = 0;
  for (int64_t k = threadIdx.x; k < classes; k += block_threads) all += weights ? weights[k] : 1.0f;
  for (int64_t i = threadIdx.x; i < count; i += block_threads) {
    const int64_t y = labels[i];
    if (counts(y, classes, ignore_index))
      counted += weights ? weights[y] : 1.0f;
    else if (y != ignore_index)
      report(fault, Finding::label, y, i, classes);
  }
  all = row_reduce<block_threads>(all, Sum{});
  counted = row_reduce<block_threads>(counted, Sum{});
  if (threadIdx.x == 0) {
    totals[0] = all;
    totals[1] = counted;
  }
}

// Softmax, loss and gradient of a row: three readings of the logits (two from L1 or L2), one writing.
template <class T, int threads, int pack>
__global__ void cross_entropy_rows_kernel(Rows<const T> logits, const int64_t* labels, const float* weights,
                                          double smoothing, int64_t ignore_index, const double* totals, Rows<T> dlogits,
                                          double* losses) {
  const int64_t r = row_index<threads>();
  if (r >= logits.count) return;
  const int64_t classes = logits.width, first = row_lane<threads>() * pack;
  constexpr int64_t step = threads * pack;
  const T* x = logits.row(r);
  T* g = dlogits.row(r);
  const int64_t y = labels[r];
  const double divisor = totals[1];
  float v[pack];
  if (!counts(y, classes, ignore_index) || divisor == 0) {
#pragma unroll
    for (int j = 0; j < pack; ++j) v[j] = 0;
    for (int64_t c = first; c < classes; c += step) store<pack>(v, g + c);
    if (first == 0) losses[r] = 0;
    return;
  }
  float top = -INFINITY;
  for (int64_t c = first; c < classes; c += step) {
    load<pack>(x + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) top = fmaxf(top, v[j]);
  }
  top = row_reduce<threads>(top, Max{});
  // With label smoothing the loss also needs the weighted sum of (top - x).
  float sum = 0;
  double smooth = 0;
  for (int64_t c = first; c < classes; c += step) {
    load<pack>(x + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) {
      sum += expf(v[j] - top);
      if (smoothing > 0) smooth += (weights ? weights[c + j] : 1.0f) * (top - v[j]);
    }
  }
  sum = row_reduce<threads>(sum, Sum{});
  if (smoothing > 0) smooth = row_reduce<threads>(smooth, Sum{});
  const double log_sum = log(static_cast<double>(sum));  // of the logits less top
  const double spread = smoothing / static_cast<double>(classes) / divisor;
  const double target = (1 - smoothing) * (weights ? weights[y] : 1.0f) / divisor;
  if (first == 0)
    losses[r] =
        target * (log_sum - (static_cast<double>(to_float(x[y])) - top)) + spread * (smooth + totals[0] * log_sum);
  // d/dx_k of sum_j c_j (log_sum - x_j) is (sum_j c_j) p_k - c_k.
  const float mass = static_cast<float>((target + spread * totals[0]) / sum);
  for (int64_t c = first; c < classes; c += step) {
    load<pack>(x + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) {
      v[j] = expf(v[j] - top) * mass - static_cast<float>(spread) * (weights ? weights[c + j] : 1.0f);
      if (c + j == y) v[j] -= static_cast<float>(target);
    }
    store<pack>(v, g + c);
  }
}

__global__ void sum_losses_kernel(const double* losses, int64_t count, float* loss) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < count; i += block_threads) total += losses[i];
  total = row_reduce<block_threads>(total, Sum{});
  if (threadIdx.x == 0) *loss = static_cast<float>(total);
}

template <class T>
__global__ void scale_by_element_kernel(const T* x, const float* factor, T* y, int64_t n) {
  const float f = *factor;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride)
    y[i] = from_float<T>(f * to_float(x[i]));
}

}  // namespace
}  // namespace cuda

namespace ops {

template <class T>
void cross_entropy_kernel(CudaContext context, Rows<const T> logits, const int64_t* labels, const Wide<T>* weights,
                          double smoothing, int64_t ignore_index, Rows<T> dlogits, Wide<T>* loss) {
  const Device device{DeviceKind::cuda, context.index};
  const Tensor totals = Tensor::empty({2}, DType::f64, device);
  const Tensor losses = Tensor::empty(Shape{logits.count}, DType::f64, device);
  cuda::launch(context, "cross_entropy_weights", cuda::weight_totals_kernel, dim3(1), dim3(cuda::block_threads), labels,
               logits.count, weights, logits.width, ignore_index, totals.data<double>(),
               cuda::context_of(context).fault);
  cuda::with_row_layout<T>(logits.width, cuda::aligned16(logits.data, dlogits.data), [&](auto threads, auto pack) {
    cuda::launch(context, "cross_entropy", cuda::cross_entropy_rows_kernel<T, threads, pack>,
                 cuda::row_blocks<threads>(logits.count), dim3(cuda::block_threads), logits, labels, weights, smoothing,
                 ignore_index, static_cast<const double*>(totals.data<double>()), dlogits, losses.data<double>());
  });
  cuda::launch(context, "cross_entropy_sum", cuda::sum_losses_kernel, dim3(1), dim3(cuda::block_threads),
               static_cast<const double*>(losses.data<double>()), logits.count, loss);
}

template <class T>
void scale_by_element(CudaContext context, const T* x, const Wide<T>* factor, T* y, int64_t n) {
  cuda::launch(context, "scale_by_element", cuda::scale_by_element_kernel<T>, cuda::blocks_for(n, 256), dim3(256), x,
               factor, y, n);
}

#define DUET_INSTANTIATE(T)                                                                                          \
  template void cross_entropy_kernel<T>(CudaContext, Rows<const T>, const int64_t*, const Wide<T>*, double, int64_t, \
                                        Rows<T>, Wide<T>*);                                                          \
  template void scale_by_element<T>(CudaContext, const T*, const Wide<T>*, T*, int64_t);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)

}  // namespace ops
}  // namespace duet
