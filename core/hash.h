#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace duet {

// FNV-1a, 64 bit: names random streams, assigns dataset rows to splits, looks up tokens. Pass the previous value to
// continue.
inline uint64_t fnv1a64(std::string_view bytes, uint64_t previous = 0xCBF29CE484222325) {
  for (const char c : bytes) previous = (previous ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return previous;
}

// CRC-32C (Castagnoli), as used by TensorBoard records and checkpoints. Pass the previous value to continue.
uint32_t crc32c(std::span<const unsigned char> bytes, uint32_t previous = 0);

}  // namespace duet
