#include "duet/ops/softmax.h"

#include "duet/cuda/device.cuh"
#include "duet/ops/l2_normalize.h"
#include "duet/ops/mean_tokens.h"
#include "duet/ops/reduce.h"

// Ops that reduce each row by itself: bytes are those of the tensors, as second readings of a row come from L1.
namespace duet {
namespace cuda {
namespace {

template <class T, int threads, int pack>
__global__ void softmax_kernel(Rows<const T> x, Rows<T> y) {
  const int64_t r = row_index<threads>();
  if (r >= x.count) return;
  const T* in = x.row(r);
  T* out = y.row(r);
  const int64_t first = row_lane<threads>() * pack;
  constexpr int64_t step = threads * pack;
  float top = -INFINITY, v[pack];
  for (int64_t c = first; c < x.width; c += step) {
    load<pack>(in + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) top = fmaxf(top, v[j]);
  }
  top = row_reduce<threads>(top, Max{});
  float sum = 0;
  for (int64_t c = first; c < x.width; c += step) {
    load<pack>(in + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) sum += expf(v[j] - top);
  }
  const float inverse = 1.0f / row_reduce<threads>(sum, Sum{});
  for (int64_t c = first; c < x.width; c += step) {
    load<pack>(in + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) v[j] = expf(v[j] - top) * inverse;
    store<pack>(v, out + c);
  }
}

template <class T, int threads, int pack>
__global__ void softmax_backward_kernel(Rows<const T> y, Rows<const T> dy, Rows<T> dx) {
  const int64_t r = row_index<threads>();
  if (r >= y.count) return;
  const int64_t first = row_lane<threads>() * pack;
  constexpr int64_t step = threads * pack;
  float p[pack], g[pack], sum = 0;
  for (int64_t c = first; c < y.width; c += step) {
    load<pack>(y.row(r) + c, p);
    load<pack>(dy.row(r) + c, g);
#pragma unroll
    for (int j = 0; j < pack; ++j) sum += p[j] * g[j];
  }
  sum = row_reduce<threads>(sum, Sum{});
  for (int64_t c = first; c < y.width; c += step) {
    load<pack>(y.row(r) + c, p);
    load<pack>(dy.row(r) + c, g);
#pragma unroll
    for (int j = 0; j < pack; ++j) g[j] = p[j] * (g[j] - sum);
    store<pack>(g, dx.row(r) + c);
  }
}

template <class T, int threads, int pack>
__global__ void l2_normalize_kernel(Rows<const T> x, float eps, Rows<T> y, float* inverse_norm) {
  const int64_t r = row_index<threads>();
  if (r >= x.count) return;
  const int64_t first = row_lane<threads>() * pack;
  constexpr int64_t step = threads * pack;
  float v[pack], squares = 0;
  for (int64_t c = first; c < x.width; c += step) {
    load<pack>(x.row(r) + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) squares += v[j] * v[j];
  }
  const float norm = sqrtf(row_reduce<threads>(squares, Sum{}));
  const float inverse = 1.0f / (norm < eps ? eps : norm);
  if (first == 0) inverse_norm[r] = inverse;
  for (int64_t c = first; c < x.width; c += step) {
    load<pack>(x.row(r) + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) v[j] *= inverse;
    store<pack>(v, y.row(r) + c);
  }
}

template <class T, int threads, int pack>
__global__ void l2_normalize_backward_kernel(Rows<const T> y, const float* inverse_norm, float eps, Rows<const T> dy,
                                             Rows<T> dx) {
  const int64_t r = row_index<threads>();
  if (r >= y.count) return;
  const int64_t first = row_lane<threads>() * pack;
  constexpr int64_t step = threads * pack;
  float v[pack], g[pack], dot = 0;
  for (int64_t c = first; c < y.width; c += step) {
    load<pack>(y.row(r) + c, v);
    load<pack>(dy.row(r) + c, g);
#pragma unroll
    for (int j = 0; j < pack; ++j) dot += v[j] * g[j];
  }
  dot = row_reduce<threads>(dot, Sum{});
  const float inverse = inverse_norm[r];
  if (inverse == 1.0f / eps) dot = 0;  // eps took the place of the norm: y is linear in x
  for (int64_t c = first; c < y.width; c += step) {
    load<pack>(y.row(r) + c, v);
    load<pack>(dy.row(r) + c, g);
#pragma unroll
    for (int j = 0; j < pack; ++j) g[j] = (g[j] - v[j] * dot) * inverse;
    store<pack>(g, dx.row(r) + c);
  }
}

// Sums in double: a loss or mean over many elements must not depend on how large it is.
template <class T, int threads, int pack>
__global__ void sum_rows_kernel(Rows<const T> x, double factor, T* y) {
  const int64_t r = row_index<threads>();
  if (r >= x.count) return;
  const int64_t first = row_lane<threads>() * pack;
  double total = 0;
  float v[pack];
  for (int64_t c = first; c < x.width; c += threads * pack) {
    load<pack>(x.row(r) + c, v);
#pragma unroll
    for (int j = 0; j < pack; ++j) total += v[j];
  }
  total = row_reduce<threads>(total, Sum{});
  if (first == 0) y[r] = from_float<T>(static_cast<float>(total * factor));
}

template <class T>
__global__ void sum_rows_backward_kernel(const T* dy, float factor, Rows<T> dx) {
  const int64_t n = dx.count * dx.width, stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride)
    dx.data[i] = from_float<T>(to_float(dy[i / dx.width]) * factor);
}

template <class T>
__global__ void token_weights_kernel(int64_t batch, int64_t tokens, const uint8_t* mask, T* weights) {
  const int64_t b = row_index<warp>();
  if (b >= batch) return;
  const int lane = row_lane<warp>();
  float real = 0;
  if (mask != nullptr)
    for (int64_t t = lane; t < tokens; t += warp) real += mask[b * tokens + t] != 0;
  real = row_reduce<warp>(real, Sum{});
  const float share = 1.0f / (real > 0 ? real : static_cast<float>(tokens));
  for (int64_t t = lane; t < tokens; t += warp)
    weights[b * tokens + t] = from_float<T>(real == 0 || mask[b * tokens + t] != 0 ? share : 0.0f);
}

}  // namespace
}  // namespace cuda

namespace ops {
using cuda::aligned16;
using cuda::block_threads;
using cuda::row_blocks;
using cuda::with_row_layout;

template <class T>
void softmax_forward(CudaContext context, Rows<const T> x, Rows<T> y) {
  with_row_layout<T>(x.width, aligned16(x.data, y.data), [&](auto threads, auto pack) {
    cuda::launch(context, "softmax", cuda::softmax_kernel<T, threads, pack>, row_blocks<threads>(x.count),
                 dim3(block_threads), x, y);
  });
}

template <class T>
void softmax_backward(CudaContext context, Rows<const T> y, Rows<const T> dy, Rows<T> dx) {
  with_row_layout<T>(y.width, aligned16(y.data, dy.data, dx.data), [&](auto threads, auto pack) {
    cuda::launch(context, "softmax_backward", cuda::softmax_backward_kernel<T, threads, pack>,
                 row_blocks<threads>(y.count), dim3(block_threads), y, dy, dx);
  });
}

template <class T>
void l2_normalize_forward(CudaContext context, Rows<const T> x, Wide<T> eps, Rows<T> y, Wide<T>* inverse_norm) {
  with_row_layout<T>(x.width, aligned16(x.data, y.data), [&](auto threads, auto pack) {
    cuda::launch(context, "l2_normalize", cuda::l2_normalize_kernel<T, threads, pack>, row_blocks<threads>(x.count),
                 dim3(block_threads), x, eps, y, inverse_norm);
  });
}

template <class T>
void l2_normalize_backward(CudaContext context, Rows<const T> y, const Wide<T>* inverse_norm, Wide<T> eps,
                           Rows<const T> dy, Rows<T> dx) {
  with_row_layout<T>(y.width, aligned16(y.data, dy.data, dx.data), [&](auto threads, auto pack) {
    cuda::launch(context, "l2_normalize_backward", cuda::l2_normalize_backward_kernel<T, threads, pack>,
                 row_blocks<threads>(y.count), dim3(block_threads), y, inverse_norm, eps, dy, dx);
  });
}

template <class T>
void sum_rows_forward(CudaContext context, Rows<const T> x, double factor, T* y) {
  with_row_layout<T>(x.width, aligned16(x.data), [&](auto threads, auto pack) {
    cuda::launch(context, "sum_rows", cuda::sum_rows_kernel<T, threads, pack>, row_blocks<threads>(x.count),
                 dim3(block_threads), x, factor, y);
  });
}

template <class T>
void sum_rows_backward(CudaContext context, const T* dy, double factor, Rows<T> dx) {
  cuda::launch(context, "sum_rows_backward", cuda::sum_rows_backward_kernel<T>,
               cuda::blocks_for(dx.count * dx.width, 256), dim3(256), dy, static_cast<float>(factor), dx);
}

template <class T>
void token_weights(CudaContext context, int64_t batch, int64_t tokens, const uint8_t* mask, T* weights) {
  cuda::launch(context, "token_weights", cuda::token_weights_kernel<T>, row_blocks<cuda::warp>(batch),
               dim3(block_threads), batch, tokens, mask, weights);
}

#define DUET_INSTANTIATE(T)                                                                                            \
  template void softmax_forward<T>(CudaContext, Rows<const T>, Rows<T>);                                               \
  template void softmax_backward<T>(CudaContext, Rows<const T>, Rows<const T>, Rows<T>);                               \
  template void l2_normalize_forward<T>(CudaContext, Rows<const T>, Wide<T>, Rows<T>, Wide<T>*);                       \
  template void l2_normalize_backward<T>(CudaContext, Rows<const T>, const Wide<T>*, Wide<T>, Rows<const T>, Rows<T>); \
  template void sum_rows_forward<T>(CudaContext, Rows<const T>, double, T*);                                           \
  template void sum_rows_backward<T>(CudaContext, const T*, double, Rows<T>);                                          \
  template void token_weights<T>(CudaContext, int64_t, int64_t, const uint8_t*, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)

}  // namespace ops
}  // namespace duet
