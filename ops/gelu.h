#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// x Phi(x), exact through erf, or with the tanh approximation. Any shape.
Variable gelu(const Variable& x, bool tanh_approximation = false);

template <class T>
void gelu_forward(CpuContext, bool tanh_approximation, const Tensor& x, const Tensor& y);
template <class T>
void gelu_forward(CudaContext, bool tanh_approximation, const Tensor& x, const Tensor& y);
template <class T>
void gelu_backward(CpuContext, bool tanh_approximation, const Tensor& x, const Tensor& dy, const Tensor& dx);
template <class T>
void gelu_backward(CudaContext, bool tanh_approximation, const Tensor& x, const Tensor& dy, const Tensor& dx);

}  // namespace duet::ops
