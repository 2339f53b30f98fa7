#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// y = x / max(|x|, eps) over the last dimension, eps > 0; it guards zero vectors. (..., C) -> (..., C).
Variable l2_normalize(const Variable& x, double eps = 1e-12);

template <class T>
void l2_normalize_forward(CpuContext, Rows<const T> x, Wide<T> eps, Rows<T> y, Wide<T>* inverse_norm);
template <class T>
void l2_normalize_forward(CudaContext, Rows<const T> x, Wide<T> eps, Rows<T> y, Wide<T>* inverse_norm);
// dx = (dy - y (y . dy)) / |x|, and dy / eps where eps took the place of the norm.
template <class T>
void l2_normalize_backward(CpuContext, Rows<const T> y, const Wide<T>* inverse_norm, Wide<T> eps, Rows<const T> dy,
                           Rows<T> dx);
template <class T>
void l2_normalize_backward(CudaContext, Rows<const T> y, const Wide<T>* inverse_norm, Wide<T> eps, Rows<const T> dy,
                           Rows<T> dx);

}  // namespace duet::ops
