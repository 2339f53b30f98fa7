#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

enum class Activation { none, gelu, gelu_tanh };

// y = activation(x W^T + bias). x (..., I), weight (O, I), bias (O) or undefined -> (..., O). Bias and activation run
// in one pass over the output. Throws Error when the inner sizes differ.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias,
                Activation activation = Activation::none);

// y = activation(z + bias); z is overwritten by z + bias, which the backward pass of the activation needs.
// y may alias z when the activation is none. bias may be null.
template <class T>
void bias_activation_forward(CpuContext, Rows<T> z, const T* bias, Activation activation, Rows<T> y);
// dz = dy * activation'(z).
template <class T>
void activation_backward(CpuContext, Rows<const T> z, Rows<const T> dy, Activation activation, Rows<T> dz);
template <class T>
void bias_backward(CpuContext, Rows<const T> dy, T* dbias);

}  // namespace duet::ops
