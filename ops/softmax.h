#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// softmax over the last dimension: (..., C) -> (..., C). The row maximum is subtracted first.
Variable softmax(const Variable& x);

// Forward: y may alias x. Backward: dx may alias dy.
template <class T>
void softmax_forward(CpuContext, Rows<const T> x, Rows<T> y);
template <class T>
void softmax_forward(CudaContext, Rows<const T> x, Rows<T> y);
template <class T>
void softmax_backward(CpuContext, Rows<const T> y, Rows<const T> dy, Rows<T> dx);
template <class T>
void softmax_backward(CudaContext, Rows<const T> y, Rows<const T> dy, Rows<T> dx);

}  // namespace duet::ops
