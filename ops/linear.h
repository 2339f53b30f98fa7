#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

enum class Activation { none, gelu, gelu_tanh };

// y = activation(x W^T + bias). x (..., I), weight (O, I), bias (O) or undefined -> (..., O); weight and bias are
// float32 when x is bfloat16. Bias and activation run in one pass over the output. Throws Error when the inner sizes
// differ.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias,
                Activation activation = Activation::none);

// z = x w^T + bias and y = activation(z), for x (m, in), w (out, in). bias may be null; y is z when the activation is
// none.
template <class T>
void linear_forward(CpuContext, int64_t m, int64_t in, int64_t out, const T* x, const T* w, const Wide<T>* bias,
                    Activation activation, T* z, T* y);
template <class T>
void linear_forward(CudaContext, int64_t m, int64_t in, int64_t out, const T* x, const T* w, const Wide<T>* bias,
                    Activation activation, T* z, T* y);
// dz = dy * activation'(z), and dbias = sum of dz over rows unless it is null.
template <class T>
void activation_backward(CpuContext, Rows<const T> z, Rows<const T> dy, Activation activation, Rows<T> dz,
                         Wide<T>* dbias);
template <class T>
void activation_backward(CudaContext, Rows<const T> z, Rows<const T> dy, Activation activation, Rows<T> dz,
                         Wide<T>* dbias);
template <class T>
void bias_backward(CpuContext, Rows<const T> dy, Wide<T>* dbias);
template <class T>
void bias_backward(CudaContext, Rows<const T> dy, Wide<T>* dbias);

}  // namespace duet::ops
