#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// a (op) b, where b's shape equals the last dimensions of a's shape: b is repeated over a's leading dimensions. A
// scalar b, shape (), fits everything. The result has a's shape.
Variable add(const Variable& a, const Variable& b);
Variable subtract(const Variable& a, const Variable& b);
Variable multiply(const Variable& a, const Variable& b);
Variable divide(const Variable& a, const Variable& b);

// x * factor, for a constant factor.
Variable scale(const Variable& x, double factor);

enum class Binary { add, subtract, multiply, divide };
// y = a (op) b; b has b_count elements and repeats.
template <class T>
void binary_forward(CpuContext, Binary op, const Tensor& a, const Tensor& b, const Tensor& y);
template <class T>
void binary_forward(CudaContext, Binary op, const Tensor& a, const Tensor& b, const Tensor& y);
// y[j] = sum over i of x[i * y.numel() + j]: the gradient of a broadcast.
template <class T>
void sum_leading(CpuContext, const Tensor& x, const Tensor& y);
template <class T>
void sum_leading(CudaContext, const Tensor& x, const Tensor& y);
// y = factor * x
template <class T>
void scale_forward(CpuContext, double factor, const Tensor& x, const Tensor& y);
template <class T>
void scale_forward(CudaContext, double factor, const Tensor& x, const Tensor& y);

}  // namespace duet::ops
