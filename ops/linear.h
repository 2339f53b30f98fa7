#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

enum class Activation { none, gelu, gelu_tanh };

// y = activation(x W^T + bias). x (..., I), weight (O, I), bias (O) or undefined -> (..., O); weight and bias are
// float32 when x is bfloat16. Bias and activation run in one pass over the output. Throws Error when the inner sizes
// differ.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias,
                Activation activation = Activation::none);

// y = activation(x W1^T + bias1) W2^T + bias2, as two linear ops compute it. On the CPU the hidden layer is not kept
// for the backward pass, which has it anew from the value before the activation, and where products are packed they
// make it in parts in the forward pass too: (..., H) less memory and no measurable time. On a GPU, where that pass over
// memory would cost 2 % of a step by count, it is two linear ops. x (..., I), weight1 (H, I), bias1 (H) or undefined,
// weight2 (O, H), bias2 (O) or undefined -> (..., O); dtypes as for linear. Throws Error when sizes differ.
Variable feed_forward(const Variable& x, const Variable& weight1, const Variable& bias1, Activation activation,
                      const Variable& weight2, const Variable& bias2);

// z = x w^T + bias and y = activation(z), for x (m, in), w (out, in). bias may be null; y is z when the activation is
// none.
template <class T>
void linear_forward(CpuContext, int64_t m, int64_t in, int64_t out, const T* x, const T* w, const Wide<T>* bias,
                    Activation activation, T* z, T* y);
template <class T>
void linear_forward(CudaContext, int64_t m, int64_t in, int64_t out, const T* x, const T* w, const Wide<T>* bias,
                    Activation activation, T* z, T* y);
// y = activation(z) w^T + bias, for z (m, in), w (out, in). bias may be null. In large products activation(z) is made
// in parts that stay in the cache.
template <class T>
void activated_linear_forward(CpuContext, int64_t m, int64_t in, int64_t out, const T* z, Activation activation,
                              const T* w, const Wide<T>* bias, T* y);
// dz = dy * activation'(z), which may be written over dy, and dbias = sum of dz over rows unless it is null; on the CPU
// also y = activation(z) unless that is null.
template <class T>
void activation_backward(CpuContext, Rows<const T> z, Rows<const T> dy, Activation activation, Rows<T> dz,
                         Wide<T>* dbias, T* y = nullptr);
template <class T>
void activation_backward(CudaContext, Rows<const T> z, Rows<const T> dy, Activation activation, Rows<T> dz,
                         Wide<T>* dbias);
template <class T>
void bias_backward(CpuContext, Rows<const T> dy, Wide<T>* dbias);
template <class T>
void bias_backward(CudaContext, Rows<const T> dy, Wide<T>* dbias);
// dw (out, in) = dz^T x of dz (m, out) and x (m, in), and dbias = sum of dz over rows unless it is null; on a GPU in
// one kernel where cuBLASLt has one.
template <class T>
void weight_backward(CpuContext, int64_t m, int64_t in, int64_t out, const T* dz, const T* x, Wide<T>* dw,
                     Wide<T>* dbias);
template <class T>
void weight_backward(CudaContext, int64_t m, int64_t in, int64_t out, const T* dz, const T* x, Wide<T>* dw,
                     Wide<T>* dbias);

}  // namespace duet::ops
