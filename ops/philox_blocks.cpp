#include "duet/ops/philox_blocks.h"

#include <algorithm>

namespace duet::ops {
namespace {

void one_by_one(RandomKey key, uint64_t first_block, int64_t blocks, uint32_t* numbers) {
  for (int64_t b = 0; b < blocks; ++b)
    std::ranges::copy(philox(key, first_block + static_cast<uint64_t>(b)), numbers + 4 * b);
}

}  // namespace

PhiloxBlocks philox_blocks([[maybe_unused]] CpuInstructions instructions) {
#ifdef DUET_X86_KERNELS
  if (instructions == CpuInstructions::avx512) return detail::avx512_philox_blocks;
  if (instructions == CpuInstructions::avx2) return detail::avx2_philox_blocks;
#endif
  return one_by_one;
}

}  // namespace duet::ops
