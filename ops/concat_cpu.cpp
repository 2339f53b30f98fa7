#include <cstring>

#include "duet/core/parallel.h"
#include "duet/ops/concat.h"

namespace duet::ops {

void copy_blocks(CpuContext, const std::byte* source, size_t source_stride, std::byte* target, size_t target_stride,
                 size_t block, int64_t count) {
  if (block == 0) return;
  parallel_for(count, 1 + (1 << 16) / static_cast<int64_t>(block), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto n = static_cast<size_t>(i);
      std::memcpy(target + n * target_stride, source + n * source_stride, block);
    }
  });
}

}  // namespace duet::ops
