#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>
#include <utility>
#include <vector>

// Counter-based randomness: the n-th number of a stream is a pure function of (seed, stream, n), so it does not
// depend on the device, the thread count or what was drawn before. Generator: Philox-4x32-10, Salmon et al. 2011,
// "Parallel random numbers: as easy as 1, 2, 3".
namespace duet {

// Names a stream of random numbers. `child` derives an independent stream, e.g. one per layer or per epoch.
struct RandomKey {
  uint64_t seed = 0;
  uint64_t stream = 0;
  // Set for work that a GPU repeats by itself (see DeviceGraph): the seed is then combined with the salt of the step
  // that lies in the device's memory, and the numbers are those of of_step(seed, step, stream).
  bool salted = false;

  // The key of a training step; equal streams of different steps are independent.
  static RandomKey of_step(uint64_t seed, uint64_t step, uint64_t stream);
  static uint64_t step_salt(uint64_t step);  // of_step's seed is seed ^ step_salt(step)

  RandomKey child(uint64_t tag) const;
  RandomKey child(std::string_view name) const;
};

// Four independent 32-bit numbers for counter position `offset`.
constexpr std::array<uint32_t, 4> philox(RandomKey key, uint64_t offset) {
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  std::array<uint32_t, 4> c = {static_cast<uint32_t>(offset), static_cast<uint32_t>(offset >> 32),
                               static_cast<uint32_t>(key.stream), static_cast<uint32_t>(key.stream >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

// Uniform in [0, 1) with 24 bits, exact in float.
inline float uniform01(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

// A cursor over one stream for sequential draws: initialisation, shuffles, augmentation.
class Random {
 public:
  explicit Random(RandomKey key, uint64_t offset = 0) : key_(key), offset_(offset) {}

  uint32_t next();
  uint64_t below(uint64_t n);  // uniform in [0, n); n > 0
  double uniform();            // [0, 1), 53 bits
  double normal();             // standard normal, Box-Muller

  template <class T>
  void shuffle(std::vector<T>& items) {  // Fisher-Yates
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  RandomKey key_;
  uint64_t offset_;
  int used_ = 4;
  std::array<uint32_t, 4> block_{};
};

}  // namespace duet
