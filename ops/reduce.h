#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Sum and mean of all elements: (...) -> (). The mean of nothing is an Error.
Variable sum(const Variable& x);
Variable mean(const Variable& x);
// Over the last dimension: (..., C) -> (...).
Variable sum_last(const Variable& x);
Variable mean_last(const Variable& x);

// y[r] = factor * sum of row r, accumulated in double.
template <class T>
void sum_rows_forward(CpuContext, Rows<const T> x, double factor, T* y);
template <class T>
void sum_rows_forward(CudaContext, Rows<const T> x, double factor, T* y);
// dx[r][c] = factor * dy[r].
template <class T>
void sum_rows_backward(CpuContext, const T* dy, double factor, Rows<T> dx);
template <class T>
void sum_rows_backward(CudaContext, const T* dy, double factor, Rows<T> dx);

}  // namespace duet::ops
