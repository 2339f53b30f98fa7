#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Looks up rows: ids (...) int32 or int64, weight (V, D) -> (..., D). Throws Error naming the first id outside [0, V).
// Row padding_idx (if >= 0) gets no gradient, as in the BERT word embeddings.
Variable embedding(const Tensor& ids, const Variable& weight, int64_t padding_idx = -1);

template <class T, class Index>
void embedding_forward(CpuContext, const Index* ids, int64_t count, Rows<const T> weight, T* y);
template <class T, class Index>
void embedding_forward(CudaContext, const Index* ids, int64_t count, Rows<const T> weight, T* y);
// Adds; dweight must be initialised. Ids are visited in order, so sums repeat bit for bit.
template <class T, class Index>
void embedding_backward(CpuContext, const Index* ids, int64_t count, int64_t padding_idx, const T* dy, Rows<T> dweight);
template <class T, class Index>
void embedding_backward(CudaContext, const Index* ids, int64_t count, int64_t padding_idx, const T* dy,
                        Rows<T> dweight);

}  // namespace duet::ops
