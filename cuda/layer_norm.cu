#include "duet/ops/layer_norm.h"

#include <algorithm>
#include <array>

#include "duet/autograd/accumulate.h"
#include "duet/core/numerics.h"
#include "duet/cuda/column_sum.cuh"
#include "duet/cuda/cudnn_layer_norm.h"

namespace duet {
namespace cuda {
namespace {

// How many packs of a row a thread keeps in registers; the rest of a longer row is read again, from L1.
constexpr int kept = 3;

// Blocks of the backward pass that a multiprocessor holds at once: as many as leave a thread 168 registers.
constexpr int backward_blocks = 3;

// Calls f(c, k) for the thread's packs of a row: c is the first column, k counts them. Those with k < kept come from an
// unrolled loop, so that arrays indexed with k stay in registers. Without `rest` the row is known to have no others.
template <int threads, int pack, bool rest = true, class F>
__device__ inline void for_packs(int64_t width, F f) {
  const int64_t first = row_lane<threads>() * pack;
  constexpr int64_t step = threads * pack;
#pragma unroll
  for (int k = 0; k < kept; ++k)
    if (first + k * step < width) f(first + k * step, k);
  if constexpr (rest)
    for (int64_t c = first + kept * step; c < width; c += step) f(c, kept);
}

// Two passes: subtracting the mean first keeps the variance exact for large offsets.
template <class T, int threads, int pack>
__global__ void layer_norm_kernel(Rows<const T> x, const T* residual, T* sum, const float* weight, const float* bias,
                                  float eps, Rows<T> y, float* mean, float* rstd) {
  const int64_t r = row_index<threads>();
  if (r >= x.count) return;
  const int64_t width = x.width;
  const T* in = x.row(r);
  float row[kept + 1][pack], total = 0;  // the last place is for packs that are not kept
  for_packs<threads, pack>(width, [&](int64_t c, int k) {
    float(&v)[pack] = row[k];
    load<pack>(in + c, v);
    if (residual != nullptr) {
      float added[pack];
      load<pack>(residual + r * width + c, added);
#pragma unroll
      for (int j = 0; j < pack; ++j) v[j] = to_float(from_float<T>(v[j] + added[j]));  // what is stored is what counts
      store<pack>(v, sum + r * width + c);
    }
#pragma unroll
    for (int j = 0; j < pack; ++j) total += v[j];
  });
  if (residual != nullptr) in = sum + r * width;  // each thread reads back only what it wrote
  const float m = row_reduce<threads>(total, Sum{}) / static_cast<float>(width);
  float squares = 0;
  for_packs<threads, pack>(width, [&](int64_t c, int k) {
    if (k == kept) load<pack>(in + c, row[k]);
#pragma unroll
    for (int j = 0; j < pack; ++j) squares += (row[k][j] - m) * (row[k][j] - m);
  });
  const float rs = rsqrtf(row_reduce<threads>(squares, Sum{}) / static_cast<float>(width) + eps);
  if (row_lane<threads>() == 0) {
    mean[r] = m;
    rstd[r] = rs;
  }
  for_packs<threads, pack>(width, [&](int64_t c, int k) {
    if (k == kept) load<pack>(in + c, row[k]);
    float out[pack], w[pack], b[pack];
    load_floats<pack>(weight + c, w);
    load_floats<pack>(bias + c, b);
#pragma unroll
    for (int j = 0; j < pack; ++j) out[j] = (row[k][j] - m) * rs * w[j] + b[j];
    store<pack>(out, y.row(r) + c);
  });
}

// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)). With `parameters` rows are short
// enough to be kept whole, a block goes through many, and what they add to the gradients of weight and bias, dy n and
// dy, is summed on the way: partials (blocks, 2, width).
template <class T, int threads, int pack, bool parameters>
__global__ void __launch_bounds__(block_threads, backward_blocks)
    layer_norm_backward_kernel(Rows<const T> x, const float* mean, const float* rstd, const float* weight,
                               Rows<const T> dy, const T* extra, Rows<T> dx, float* partials) {
  const int64_t width = x.width;
  float sum_w[parameters ? kept : 1][pack] = {}, sum_b[parameters ? kept : 1][pack] = {};
  const int64_t stride = static_cast<int64_t>(gridDim.x) * (block_threads / threads);
  // A row is asked for as a whole, and before the sums of the one before it are known: memory is not waited for pack by
  // pack, nor while a warp talks.
  Pack<T, pack> x_packs[kept + 1], dy_packs[kept + 1], extra_packs[kept + 1];
  float next_m = 0, next_rs = 0;
  const auto read = [&](int64_t r, int64_t c, int k) {
    x_packs[k] = load_pack<pack>(x.row(r) + c);
    dy_packs[k] = load_pack<pack>(dy.row(r) + c);
  };
  const auto read_row = [&](int64_t r) {
    if (r >= x.count) return;
    next_m = mean[r];
    next_rs = rstd[r];
    for_packs<threads, pack, false>(width, [&](int64_t c, int k) { read(r, c, k); });
  };
  const int64_t first_row = row_index<threads>();
  read_row(first_row);
  for (int64_t r = first_row; r < x.count; r += stride) {
    const auto read_extra = [&](int64_t c, int k) { extra_packs[k] = load_pack<pack>(extra + r * width + c); };
    if (extra != nullptr) for_packs<threads, pack, false>(width, read_extra);
    const float m = next_m, rs = next_rs;
    float normal[kept + 1][pack], g[kept + 1][pack], sum_g = 0, sum_gn = 0;
    const auto prepare = [&](int64_t c, int k) {
      if (k == kept) read(r, c, k);
      float w[pack];
      to_floats(x_packs[k], normal[k]);
      to_floats(dy_packs[k], g[k]);
      load_floats<pack>(weight + c, w);
#pragma unroll
      for (int j = 0; j < pack; ++j) {
        normal[k][j] = (normal[k][j] - m) * rs;
        if constexpr (parameters) {
          sum_w[k][j] += g[k][j] * normal[k][j];
          sum_b[k][j] += g[k][j];
        }
        g[k][j] *= w[j];
      }
    };
    for_packs<threads, pack, !parameters>(width, [&](int64_t c, int k) {
      prepare(c, k);
#pragma unroll
      for (int j = 0; j < pack; ++j) {
        sum_g += g[k][j];
        sum_gn += g[k][j] * normal[k][j];
      }
    });
    if constexpr (parameters) read_row(r + stride);  // else this is the only row
    sum_g = row_reduce<threads>(sum_g, Sum{}) / static_cast<float>(width);
    sum_gn = row_reduce<threads>(sum_gn, Sum{}) / static_cast<float>(width);
    for_packs<threads, pack, !parameters>(width, [&](int64_t c, int k) {
      if constexpr (!parameters) {
        if (k == kept) prepare(c, k);
      }
      float out[pack];
#pragma unroll
      for (int j = 0; j < pack; ++j) out[j] = rs * (g[k][j] - sum_g - normal[k][j] * sum_gn);
      if (extra != nullptr) {
        if (k == kept) read_extra(c, k);
        float added[pack];
        to_floats(extra_packs[k], added);
#pragma unroll
        for (int j = 0; j < pack; ++j) out[j] += added[j];
      }
      store<pack>(out, dx.row(r) + c);
    });
  }
  if constexpr (parameters) {
    // Every warp leaves its sums in a place of its own, so that a column's are added in a fixed order.
    constexpr int warps = block_threads / warp;
    alignas(sizeof(float) * pack) __shared__ float shared[warps][2][kept * warp * pack];
    float(&own)[2][kept * warp * pack] = shared[threadIdx.x / warp];
    for_packs<threads, pack, false>(width, [&](int64_t c, int k) {
      store<pack>(sum_w[k], own[0] + c);
      store<pack>(sum_b[k], own[1] + c);
    });
    __syncthreads();
    for (int64_t c = threadIdx.x; c < width; c += block_threads)
      for (int o = 0; o < 2; ++o) {
        float total = shared[0][o][c];
#pragma unroll
        for (int i = 1; i < warps; ++i) total += shared[i][o][c];
        partials[(static_cast<int64_t>(blockIdx.x) * 2 + o) * width + c] = total;
      }
  }
}

template <class T, int pack>
struct NormTerms {
  const T *x, *dy;
  const float *mean, *rstd;
  int64_t width;
  struct Input {
    Pack<T, pack> x, dy;
    float mean, rstd;
  };
  __device__ Input read(int64_t r, int64_t c) const {
    return {load_pack<pack>(x + r * width + c), load_pack<pack>(dy + r * width + c), mean[r], rstd[r]};
  }
  __device__ void operator()(int64_t, int64_t, const Input& in, float (&terms)[2][pack]) const {
    float v[pack];
    to_floats(in.x, v);
    to_floats(in.dy, terms[1]);
#pragma unroll
    for (int j = 0; j < pack; ++j) terms[0][j] = terms[1][j] * (v[j] - in.mean) * in.rstd;
  }
};

// False where cuDNN is not to do it or cannot.
template <class T>
bool cudnn_forward(CudaContext context, Rows<const T> x, const T* residual, T* sum, const float* weight,
                   const float* bias, float eps, Rows<T> y, float* mean, float* rstd) {
  const LayerNormProblem problem{false, dtype_of<T>(), x.count, x.width, eps, numerics().deterministic};
  if (!aligned16(x.data, sum, weight, bias, y.data, mean, rstd) || !cudnn_does(context, problem)) return false;
  if (residual != nullptr) add_elements<T>(context, x.data, residual, sum, x.count * x.width);
  run_cudnn(context, problem,
            std::array<std::pair<TensorId, const void*>, 6>{{{norm_x_id, residual != nullptr ? sum : x.data},
                                                             {norm_scale_id, weight},
                                                             {norm_bias_id, bias},
                                                             {norm_y_id, y.data},
                                                             {norm_mean_id, mean},
                                                             {norm_rstd_id, rstd}}});
  return true;
}

template <class T>
bool cudnn_backward(CudaContext context, Rows<const T> x, const float* mean, const float* rstd, const float* weight,
                    Rows<const T> dy, const T* extra, Rows<T> dx, float* dweight, float* dbias) {
  const LayerNormProblem problem{true, dtype_of<T>(), x.count, x.width, 0, numerics().deterministic};
  if (!aligned16(x.data, mean, rstd, weight, dy.data, dx.data) || !aligned16(dweight, dbias) ||
      !cudnn_does(context, problem))
    return false;
  Tensor unwanted;  // cuDNN always writes the gradients of weight and bias
  if (dweight == nullptr) {
    unwanted = Tensor::empty({2, (x.width + 3) / 4 * 4}, DType::f32, {DeviceKind::cuda, context.index});
    dweight = unwanted.data<float>();
    dbias = dweight + unwanted.dim(1);
  }
  run_cudnn(context, problem,
            std::array<std::pair<TensorId, const void*>, 8>{{{norm_x_id, x.data},
                                                             {norm_scale_id, weight},
                                                             {norm_mean_id, mean},
                                                             {norm_rstd_id, rstd},
                                                             {norm_dy_id, dy.data},
                                                             {norm_dx_id, dx.data},
                                                             {norm_dscale_id, dweight},
                                                             {norm_dbias_id, dbias}}});
  if (extra != nullptr) add_elements<T>(context, dx.data, extra, dx.data, x.count * x.width);
  return true;
}

}  // namespace
}  // namespace cuda

namespace ops {

template <class T>
void layer_norm_forward(CudaContext context, Rows<const T> x, const T* residual, T* sum, const Wide<T>* weight,
                        const Wide<T>* bias, Wide<T> eps, Rows<T> y, Wide<T>* mean, Wide<T>* rstd) {
  if (cuda::cudnn_forward<T>(context, x, residual, sum, weight, bias, eps, y, mean, rstd)) return;
  cuda::with_row_layout<T>(x.width, cuda::aligned16(x.data, residual, sum, y.data, weight, bias),
                           [&](auto threads, auto pack) {
                             cuda::launch(context, "layer_norm", cuda::layer_norm_kernel<T, threads, pack>,
                                          cuda::row_blocks<threads>(x.count), dim3(cuda::block_threads), x, residual,
                                          sum, weight, bias, eps, y, mean, rstd);
                           });
}

template <class T>
void layer_norm_parameter_backward(CudaContext context, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd,
                                   Rows<const T> dy, Wide<T>* dweight, Wide<T>* dbias) {
  const auto run = [&](auto pack) {
    cuda::column_reduce<2, pack, float>(context, "layer_norm_parameters",
                                        cuda::NormTerms<T, pack>{x.data, dy.data, mean, rstd, x.width}, x.count,
                                        x.width, cuda::ColumnResults<float, 2>{{dweight, dbias}});
  };
  if (x.width % cuda::full_pack<T> == 0 && cuda::aligned16(x.data, dy.data))
    run(std::integral_constant<int, cuda::full_pack<T>>{});
  else
    run(std::integral_constant<int, 1>{});
}

template <class T>
void layer_norm_backward(CudaContext context, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd,
                         const Wide<T>* weight, Rows<const T> dy, const T* extra, Rows<T> dx, Wide<T>* dweight,
                         Wide<T>* dbias) {
  if (cuda::cudnn_backward<T>(context, x, mean, rstd, weight, dy, extra, dx, dweight, dbias)) return;
  cuda::with_row_layout<T>(
      x.width, cuda::aligned16(x.data, dy.data, extra, dx.data, weight), [&](auto threads, auto pack) {
        const dim3 blocks = cuda::row_blocks<threads>(x.count);
        float* none = nullptr;
        if constexpr (threads == cuda::warp) {
          if (dweight != nullptr && x.count > 0 && x.width <= cuda::kept * cuda::warp * pack) {
            // As many as run at once: each has sums to write in the end, and none starts when others have ended.
            const int most = cuda::backward_blocks * cuda::context_of(context).multiprocessors;
            const unsigned count = std::min(blocks.x, static_cast<unsigned>(most));
            const Tensor partials =
                Tensor::empty(Shape{int64_t{count}, 2, x.width}, DType::f32, {DeviceKind::cuda, context.index});
            cuda::launch(context, "layer_norm_backward", cuda::layer_norm_backward_kernel<T, threads, pack, true>,
                         dim3(count), dim3(cuda::block_threads), x, mean, rstd, weight, dy, extra, dx,
                         partials.data<float>());
            return cuda::column_totals<2, float>(context, "layer_norm_parameters", partials, x.width,
                                                 cuda::ColumnResults<float, 2>{{dweight, dbias}});
          }
        }
        if (dweight != nullptr) layer_norm_parameter_backward<T>(context, x, mean, rstd, dy, dweight, dbias);
        cuda::launch(context, "layer_norm_backward", cuda::layer_norm_backward_kernel<T, threads, pack, false>, blocks,
                     dim3(cuda::block_threads), x, mean, rstd, weight, dy, extra, dx, none);
      });
}

#define DUET_INSTANTIATE(T)                                                                                        \
  template void layer_norm_forward<T>(CudaContext, Rows<const T>, const T*, T*, const Wide<T>*, const Wide<T>*,    \
                                      Wide<T>, Rows<T>, Wide<T>*, Wide<T>*);                                       \
  template void layer_norm_backward<T>(CudaContext, Rows<const T>, const Wide<T>*, const Wide<T>*, const Wide<T>*, \
                                       Rows<const T>, const T*, Rows<T>, Wide<T>*, Wide<T>*);                      \
  template void layer_norm_parameter_backward<T>(CudaContext, Rows<const T>, const Wide<T>*, const Wide<T>*,       \
                                                 Rows<const T>, Wide<T>*, Wide<T>*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)

}  // namespace ops
}  // namespace duet
