#pragma once

#include "duet/core/tensor.h"
#include "duet/cuda/device.cuh"

namespace duet::cuda {

// y[i] = f(x0[i], ...) for up to two inputs, computed in float. Bytes: every input read once, y written once. y may be
// one of the inputs.
template <class T, class F, int inputs>
struct MapArguments {
  F f;
  int64_t n;
  const T* x[inputs];
  T* y;
};

template <class T, class F, int inputs, int pack>
__global__ void map_kernel(MapArguments<T, F, inputs> a) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x * pack;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * pack; i + pack <= a.n; i += stride) {
    float in[inputs][pack], out[pack];
#pragma unroll
    for (int k = 0; k < inputs; ++k) load<pack>(a.x[k] + i, in[k]);
#pragma unroll
    for (int j = 0; j < pack; ++j) {
      if constexpr (inputs == 1)
        out[j] = a.f(in[0][j]);
      else
        out[j] = a.f(in[0][j], in[1][j]);
    }
    store<pack>(out, a.y + i);
  }
}

template <class T, class F, class... X>
void map(CudaContext context, const char* name, F f, int64_t n, T* y, const X*... x) {
  constexpr int inputs = sizeof...(X), pack = full_pack<T>;
  const auto start = [&](auto width, int64_t from, int64_t to) {
    if (from == to) return;
    MapArguments<T, F, inputs> a{f, to - from, {x + from...}, y + from};
    launch(context, name, map_kernel<T, F, inputs, width>, blocks_for((to - from + width - 1) / width, 256), dim3(256),
           a);
  };
  // The last elements that fill no pack go one by one.
  const int64_t packed = aligned16(y, x...) ? n / pack * pack : 0;
  start(std::integral_constant<int, pack>{}, 0, packed);
  start(std::integral_constant<int, 1>{}, packed, n);
}

}  // namespace duet::cuda
