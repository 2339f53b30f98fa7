#pragma once

#include "duet/core/tensor.h"

namespace duet {

// total += addend. An undefined total takes the addend's handle; memory that others look at is never changed.
void accumulate(Tensor& total, Tensor addend);

// y = a + b; y may be a.
template <class T>
void add_elements(CpuContext, const T* a, const T* b, T* y, int64_t count);
template <class T>
void add_elements(CudaContext, const T* a, const T* b, T* y, int64_t count);

}  // namespace duet
