#include "duet/ops/elementwise.h"

#include "duet/autograd/accumulate.h"
#include "duet/cuda/column_sum.cuh"
#include "duet/cuda/map.cuh"
#include "duet/cuda/math.cuh"
#include "duet/ops/exp.h"
#include "duet/ops/gelu.h"
#include "duet/ops/reduce.h"
#include "duet/ops/tanh.h"

namespace duet {
namespace cuda {
namespace {

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Subtract {
  __device__ float operator()(float a, float b) const { return a - b; }
};
struct Multiply {
  __device__ float operator()(float a, float b) const { return a * b; }
};
struct Divide {
  __device__ float operator()(float a, float b) const { return a / b; }
};
struct Scale {
  float factor;
  __device__ float operator()(float x) const { return factor * x; }
};
struct Exp {
  __device__ float operator()(float x) const { return expf(x); }
};
struct Tanh {
  __device__ float operator()(float x) const { return tanhf(x); }
};
struct TanhBackward {
  __device__ float operator()(float y, float dy) const { return dy * (1.0f - y * y); }
};
struct Gelu {
  bool approximate;
  __device__ float operator()(float x) const { return approximate ? gelu_tanh(x) : gelu_exact(x); }
};
struct GeluBackward {
  bool approximate;
  __device__ float operator()(float x, float dy) const {
    return dy * (approximate ? gelu_tanh_derivative(x) : gelu_exact_derivative(x));
  }
};

// y[i] = f(a[i], b[i % width]).
template <class T, class F>
__global__ void broadcast_kernel(F f, int64_t n, int64_t width, const T* a, const T* b, T* y) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride)
    y[i] = from_float<T>(f(to_float(a[i]), to_float(b[i % width])));
}

template <class T, class F>
void binary(CudaContext context, const char* name, F f, const Tensor& a, const Tensor& b, const Tensor& y) {
  const T *pa = a.data<T>(), *pb = b.data<T>();
  if (a.numel() == b.numel()) return map(context, name, f, a.numel(), y.data<T>(), pa, pb);
  if (a.numel() == 0) return;
  launch(context, name, broadcast_kernel<T, F>, blocks_for(a.numel(), 256), dim3(256), f, a.numel(), b.numel(), pa, pb,
         y.data<T>());
}

}  // namespace
}  // namespace cuda

template <class T>
void add_elements(CudaContext context, const T* a, const T* b, T* y, int64_t count) {
  cuda::map(context, "add_elements", cuda::Add{}, count, y, a, b);
}
template void add_elements<float>(CudaContext, const float*, const float*, float*, int64_t);
template void add_elements<bf16>(CudaContext, const bf16*, const bf16*, bf16*, int64_t);

namespace ops {

template <class T>
void binary_forward(CudaContext context, Binary op, const Tensor& a, const Tensor& b, const Tensor& y) {
  switch (op) {
    case Binary::add:
      return cuda::binary<T>(context, "add", cuda::Add{}, a, b, y);
    case Binary::subtract:
      return cuda::binary<T>(context, "subtract", cuda::Subtract{}, a, b, y);
    case Binary::multiply:
      return cuda::binary<T>(context, "multiply", cuda::Multiply{}, a, b, y);
    case Binary::divide:
      return cuda::binary<T>(context, "divide", cuda::Divide{}, a, b, y);
  }
}

template <class T>
void sum_leading(CudaContext context, const Tensor& x, const Tensor& y) {
  const int64_t width = y.numel();
  if (width == 0) return;
  if (width == 1) return sum_rows_forward<T>(context, {x.data<T>(), 1, x.numel()}, 1, y.data<T>());
  cuda::column_sum<T, T>(context, "sum_leading", {x.data<T>(), x.numel() / width, width}, y.data<T>());
}

template <class T>
void scale_forward(CudaContext context, double factor, const Tensor& x, const Tensor& y) {
  cuda::map(context, "scale", cuda::Scale{static_cast<float>(factor)}, x.numel(), y.data<T>(),
            static_cast<const T*>(x.data<T>()));
}

template <class T>
void exp_forward(CudaContext context, const Tensor& x, const Tensor& y) {
  cuda::map(context, "exp", cuda::Exp{}, x.numel(), y.data<T>(), static_cast<const T*>(x.data<T>()));
}
template <class T>
void exp_backward(CudaContext context, const Tensor& y, const Tensor& dy, const Tensor& dx) {
  cuda::binary<T>(context, "exp_backward", cuda::Multiply{}, y, dy, dx);
}

template <class T>
void tanh_forward(CudaContext context, const Tensor& x, const Tensor& y) {
  cuda::map(context, "tanh", cuda::Tanh{}, x.numel(), y.data<T>(), static_cast<const T*>(x.data<T>()));
}
template <class T>
void tanh_backward(CudaContext context, const Tensor& y, const Tensor& dy, const Tensor& dx) {
  cuda::binary<T>(context, "tanh_backward", cuda::TanhBackward{}, y, dy, dx);
}

template <class T>
void gelu_forward(CudaContext context, bool tanh_approximation, const Tensor& x, const Tensor& y) {
  cuda::map(context, "gelu", cuda::Gelu{tanh_approximation}, x.numel(), y.data<T>(),
            static_cast<const T*>(x.data<T>()));
}
template <class T>
void gelu_backward(CudaContext context, bool tanh_approximation, const Tensor& x, const Tensor& dy, const Tensor& dx) {
  cuda::binary<T>(context, "gelu_backward", cuda::GeluBackward{tanh_approximation}, x, dy, dx);
}

#define DUET_INSTANTIATE(T)                                                                          \
  template void binary_forward<T>(CudaContext, Binary, const Tensor&, const Tensor&, const Tensor&); \
  template void sum_leading<T>(CudaContext, const Tensor&, const Tensor&);                           \
  template void scale_forward<T>(CudaContext, double, const Tensor&, const Tensor&);                 \
  template void exp_forward<T>(CudaContext, const Tensor&, const Tensor&);                           \
  template void exp_backward<T>(CudaContext, const Tensor&, const Tensor&, const Tensor&);           \
  template void tanh_forward<T>(CudaContext, const Tensor&, const Tensor&);                          \
  template void tanh_backward<T>(CudaContext, const Tensor&, const Tensor&, const Tensor&);          \
  template void gelu_forward<T>(CudaContext, bool, const Tensor&, const Tensor&);                    \
  template void gelu_backward<T>(CudaContext, bool, const Tensor&, const Tensor&, const Tensor&);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)

}  // namespace ops
}  // namespace duet
