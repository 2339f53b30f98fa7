#include "duet/core/hash.h"

#include <array>
#include <cstring>

namespace duet {
namespace {

// Slicing by 8: table k maps a byte to the CRC of that byte followed by k zero bytes.
struct Tables {
  std::array<std::array<uint32_t, 256>, 8> t{};
  constexpr Tables() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? (c >> 1) ^ 0x82F63B78 : c >> 1;
      t[0][i] = c;
    }
    for (size_t k = 1; k < 8; ++k)
      for (size_t i = 0; i < 256; ++i) t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 255];
  }
};
constexpr Tables tables;

}  // namespace

uint32_t crc32c(std::span<const unsigned char> bytes, uint32_t previous) {
  const auto& t = tables.t;
  uint32_t c = ~previous;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    word ^= c;
    c = t[7][word & 255] ^ t[6][word >> 8 & 255] ^ t[5][word >> 16 & 255] ^ t[4][word >> 24 & 255] ^
        t[3][word >> 32 & 255] ^ t[2][word >> 40 & 255] ^ t[1][word >> 48 & 255] ^ t[0][word >> 56];
  }
  for (; i < bytes.size(); ++i) c = (c >> 8) ^ t[0][(c ^ bytes[i]) & 255];
  return ~c;
}

}  // namespace duet
