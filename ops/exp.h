#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Exponential of every element. Any shape.
Variable exp(const Variable& x);

template <class T>
void exp_forward(CpuContext, const Tensor& x, const Tensor& y);
template <class T>
void exp_forward(CudaContext, const Tensor& x, const Tensor& y);
template <class T>
void exp_backward(CpuContext, const Tensor& y, const Tensor& dy, const Tensor& dx);
template <class T>
void exp_backward(CudaContext, const Tensor& y, const Tensor& dy, const Tensor& dx);

}  // namespace duet::ops
