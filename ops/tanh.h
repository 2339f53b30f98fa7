#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Hyperbolic tangent of every element. Any shape.
Variable tanh(const Variable& x);

template <class T>
void tanh_forward(CpuContext, const Tensor& x, const Tensor& y);
template <class T>
void tanh_forward(CudaContext, const Tensor& x, const Tensor& y);
template <class T>
void tanh_backward(CpuContext, const Tensor& y, const Tensor& dy, const Tensor& dx);
template <class T>
void tanh_backward(CudaContext, const Tensor& y, const Tensor& dy, const Tensor& dx);

}  // namespace duet::ops
