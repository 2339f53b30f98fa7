#pragma once

#include "duet/autograd/variable.h"
#include "duet/core/philox.h"
#include "duet/ops/attention_rows.h"

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

// What attention drops with probability p > 0 from `rows` rows of n probabilities, the first of which, in row i, uses
// number first + i * step of the stream. `memory` takes the numbers, dropped_rows_memory(rows, n) of them at most.
template <class W>
Dropped<W> dropped_rows(int64_t rows, int64_t n, float p, RandomKey random, int64_t first, int64_t step,
                        uint32_t* memory);
int64_t dropped_rows_memory(int64_t rows, int64_t n);

}  // namespace duet::ops
