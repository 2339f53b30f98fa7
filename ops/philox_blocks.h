#pragma once

#include "duet/core/cpu.h"
#include "duet/core/philox.h"

// Many random numbers at once.
namespace duet::ops {

// Numbers are written for a multiple of so many blocks.
constexpr int64_t philox_blocks_together = 32;
// What philox(key, first_block), philox(key, first_block + 1), ... give, one after the other: 4 * `blocks` numbers, and
// more up to the next multiple of 4 * philox_blocks_together.
using PhiloxBlocks = void (*)(RandomKey key, uint64_t first_block, int64_t blocks, uint32_t* numbers);
// The copy for those instructions, which the processor must have.
PhiloxBlocks philox_blocks(CpuInstructions instructions);

namespace detail {
void avx2_philox_blocks(RandomKey key, uint64_t first_block, int64_t blocks, uint32_t* numbers);
void avx512_philox_blocks(RandomKey key, uint64_t first_block, int64_t blocks, uint32_t* numbers);
}  // namespace detail

}  // namespace duet::ops
