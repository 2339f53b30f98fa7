#pragma once

#include "duet/autograd/variable.h"
#include "duet/core/philox.h"

namespace duet::ops {

// Sets elements to zero with probability p and scales the rest by 1 / (1 - p). Element i uses number i of the stream,
// so the mask is recomputed, not stored, and does not depend on the thread count. p = 0 returns x itself.
// With `rows` (N) int64, on the CPU only, x (N, C) holds some rows of a larger matrix: row i is its row rows[i], and
// drops what it drops there.
Variable dropout(const Variable& x, double p, RandomKey random, const Tensor& rows = {});

template <class T>
void dropout_forward(CpuContext, const T* x, T* y, int64_t n, float p, RandomKey random);
template <class T>
void dropout_forward(CudaContext, const T* x, T* y, int64_t n, float p, RandomKey random);

template <class T>
void dropout_rows(CpuContext, Rows<const T> x, const int64_t* rows, Rows<T> y, float p, RandomKey random);

// The CPU's piece of it: y[i] = x[i] * mask(first + i) / (1 - p). y may alias x.
template <class T>
void dropout_span(const T* x, T* y, int64_t n, float p, RandomKey random, int64_t first);

}  // namespace duet::ops
