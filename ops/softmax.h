#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// softmax over the last dimension: (..., C) -> (..., C). The row maximum is subtracted first.
Variable softmax(const Variable& x);

template <class T>
void softmax_forward(CpuContext, Rows<const T> x, Rows<T> y);  // y may alias x
template <class T>
void softmax_backward(CpuContext, Rows<const T> y, Rows<const T> dy, Rows<T> dx);  // dx may alias dy

}  // namespace duet::ops
