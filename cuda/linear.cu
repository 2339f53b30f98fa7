#include "duet/ops/linear.h"

#include "duet/core/backend.h"
#include "duet/cuda/column_sum.cuh"
#include "duet/cuda/gemm.h"
#include "duet/cuda/map.cuh"
#include "duet/cuda/math.cuh"

namespace duet {
namespace cuda {
namespace {

using ops::Activation;

template <Activation activation>
struct Activate {
  __device__ float operator()(float x) const {
    if constexpr (activation == Activation::gelu) return gelu_exact(x);
    if constexpr (activation == Activation::gelu_tanh) return gelu_tanh(x);
    return x;
  }
};
template <Activation activation>
struct ActivationBackward {
  __device__ float operator()(float z, float dy) const {
    if constexpr (activation == Activation::gelu) return dy * gelu_exact_derivative(z);
    if constexpr (activation == Activation::gelu_tanh) return dy * gelu_tanh_derivative(z);
    return dy;
  }
};

// For where cuBLASLt does not add the bias: z += bias, in place.
template <class T>
__global__ void add_bias_kernel(T* z, const T* bias, int64_t n, int64_t width) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride)
    z[i] = from_float<T>(to_float(z[i]) + to_float(bias[i % width]));
}

// Writes dz on the way to its column sums: z and dy are read once.
template <class T, Activation activation, int pack>
struct ActivationTerms {
  const T *z, *dy;
  T* dz;
  int64_t width;
  struct Input {
    Pack<T, pack> z, dy;
  };
  __device__ Input read(int64_t r, int64_t c) const {
    return {load_pack<pack>(z + r * width + c), load_pack<pack>(dy + r * width + c)};
  }
  __device__ void operator()(int64_t r, int64_t c, const Input& in, float (&terms)[1][pack]) const {
    float v[pack];
    to_floats(in.z, v);
    to_floats(in.dy, terms[0]);
#pragma unroll
    for (int j = 0; j < pack; ++j) terms[0][j] = ActivationBackward<activation>()(v[j], terms[0][j]);
    const auto rounded = to_pack<T>(terms[0]);  // what is stored is what counts
    store_pack(rounded, dz + r * width + c);
    to_floats(rounded, terms[0]);
  }
};

template <class F>
void with_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::none:
      return f(std::integral_constant<Activation, Activation::none>{});
    case Activation::gelu:
      return f(std::integral_constant<Activation, Activation::gelu>{});
    case Activation::gelu_tanh:
      return f(std::integral_constant<Activation, Activation::gelu_tanh>{});
  }
}

}  // namespace
}  // namespace cuda

namespace ops {

template <class T>
void linear_forward(CudaContext context, int64_t m, int64_t in, int64_t out, const T* x, const T* w,
                    const Wide<T>* bias, Activation activation, T* z, T* y) {
  if (m == 0 || out == 0) return;
  Tensor rounded;
  const T* added = nullptr;
  if constexpr (std::is_same_v<T, Wide<T>>) {
    added = bias;
  } else if (bias != nullptr) {
    // cuBLASLt wants the bias in the result's dtype.
    rounded = Tensor::empty(Shape{out}, dtype_of<T>(), {DeviceKind::cuda, context.index});
    convert_elements<T, Wide<T>>(context, bias, rounded.data<T>(), out);
    added = rounded.data<T>();
  }
  // In float32 the tanh of that kernel is not known to be exact enough.
  if constexpr (std::is_same_v<T, bf16>)
    if (activation == Activation::gelu_tanh && added != nullptr &&
        cuda::gemm_add_bias_gelu<T>(context, m, out, in, x, w, added, z, y))
      return;
  if (!cuda::gemm_add_bias<T>(context, m, out, in, x, w, added, z) && added != nullptr)
    cuda::launch(context, "add_bias", cuda::add_bias_kernel<T>, cuda::blocks_for(m * out, 256), dim3(256), z, added,
                 m * out, out);
  if (activation != Activation::none)
    cuda::with_activation(activation, [&](auto which) {
      cuda::map(context, "activation", cuda::Activate<which>{}, m * out, y, static_cast<const T*>(z));
    });
}

template <class T>
void activation_backward(CudaContext context, Rows<const T> z, Rows<const T> dy, Activation activation, Rows<T> dz,
                         Wide<T>* dbias) {
  cuda::with_activation(activation, [&](auto which) {
    if (dbias == nullptr)
      return cuda::map(context, "activation_backward", cuda::ActivationBackward<which>{}, z.count * z.width, dz.data,
                       z.data, dy.data);
    const auto run = [&](auto pack) {
      cuda::column_reduce<1, pack, Wide<T>>(context, "activation_backward",
                                            cuda::ActivationTerms<T, which, pack>{z.data, dy.data, dz.data, z.width},
                                            z.count, z.width, cuda::ColumnResults<Wide<T>, 1>{{dbias}});
    };
    if (z.width % cuda::full_pack<T> == 0 && cuda::aligned16(z.data, dy.data, dz.data))
      run(std::integral_constant<int, cuda::full_pack<T>>{});
    else
      run(std::integral_constant<int, 1>{});
  });
}

template <class T>
void bias_backward(CudaContext context, Rows<const T> dy, Wide<T>* dbias) {
  cuda::column_sum<T, Wide<T>>(context, "bias_backward", dy, dbias);
}

template <class T>
void weight_backward(CudaContext context, int64_t m, int64_t in, int64_t out, const T* dz, const T* x, Wide<T>* dw,
                     Wide<T>* dbias) {
  if (dbias != nullptr) {
    if (cuda::gemm_sum_bias<T>(context, m, out, in, dz, x, dw, dbias)) return;
    bias_backward<T>(context, {dz, m, out}, dbias);
  }
  gemm<T, Wide<T>>(context, out, in, m, 1, {dz, out, true}, {x, in}, 0, {dw, in});
}

#define DUET_INSTANTIATE(T)                                                                                         \
  template void linear_forward<T>(CudaContext, int64_t, int64_t, int64_t, const T*, const T*, const Wide<T>*,       \
                                  Activation, T*, T*);                                                              \
  template void weight_backward<T>(CudaContext, int64_t, int64_t, int64_t, const T*, const T*, Wide<T>*, Wide<T>*); \
  template void activation_backward<T>(CudaContext, Rows<const T>, Rows<const T>, Activation, Rows<T>, Wide<T>*);   \
  template void bias_backward<T>(CudaContext, Rows<const T>, Wide<T>*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)

}  // namespace ops
}  // namespace duet
