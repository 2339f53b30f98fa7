// Included by the files that are compiled one per set of instructions, once each has said in an anonymous namespace
// what a vector of `lanes` 32-bit numbers is: Words, with splat, counters, store, ^, multiply and interleave. No
// function of others that is inline or a template: the linker might choose the copy from here for all, also where there
// are no such instructions.
#pragma once

#include <cstdint>

#include "duet/ops/philox_blocks.h"

namespace duet::ops::detail {
namespace {

// Which block of a batch each lane makes: `interleave`, which stays within 128 bits, then puts them in order.
struct Places {
  alignas(64) uint32_t of[lanes];
};
constexpr Places places = [] {
  Places result{};
  for (int l = 0; l < lanes; ++l) result.of[l] = static_cast<uint32_t>(l % 4 * (lanes / 4) + l / 4);
  return result;
}();

// Batches of one block in each lane, side by side: a multiplication's result is waited for while the others' are made.
template <int Batches>
void philox_batches(RandomKey key, uint64_t first_block, uint32_t* numbers) {
  Words c[Batches][4];
#pragma GCC unroll 4
  for (int b = 0; b < Batches; ++b) {
    counters(first_block + static_cast<uint64_t>(b * lanes), places.of, c[b][0], c[b][1]);
    c[b][2] = splat(static_cast<uint32_t>(key.stream));
    c[b][3] = splat(static_cast<uint32_t>(key.stream >> 32));
  }
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 4
    for (int b = 0; b < Batches; ++b) {
      Words(&x)[4] = c[b];
      Words high0, low0, high2, low2;
      multiply(x[0], 0xD2511F53, high0, low0);
      multiply(x[2], 0xCD9E8D57, high2, low2);
      x[0] = high2 ^ x[1] ^ splat(k0);
      x[1] = low2;
      x[2] = high0 ^ x[3] ^ splat(k1);
      x[3] = low0;
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
#pragma GCC unroll 4
  for (int b = 0; b < Batches; ++b) {
    interleave(c[b]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) store(numbers + (4 * b + i) * lanes, c[b][i]);
  }
}

void philox_of_lanes(RandomKey key, uint64_t first_block, int64_t blocks, uint32_t* numbers) {
  constexpr int together = 2;
  static_assert(philox_blocks_together % (together * lanes) == 0);
  while (blocks > 0) {
    const int batches = blocks > lanes ? together : 1;
    if (batches == together)
      philox_batches<together>(key, first_block, numbers);
    else
      philox_batches<1>(key, first_block, numbers);
    first_block += static_cast<uint64_t>(batches * lanes);
    numbers += 4 * batches * lanes;
    blocks -= batches * lanes;
  }
}

}  // namespace
}  // namespace duet::ops::detail
