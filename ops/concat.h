#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Joins along `axis`; all other dimensions must agree.
Variable concat(const std::vector<Variable>& parts, int axis);

// Copies `count` blocks of `block` bytes between two strided places; concat and slice are nothing else.
void copy_blocks(CpuContext, const std::byte* source, size_t source_stride, std::byte* target, size_t target_stride,
                 size_t block, int64_t count);
void copy_blocks(CudaContext, const std::byte* source, size_t source_stride, std::byte* target, size_t target_stride,
                 size_t block, int64_t count);

}  // namespace duet::ops
