#include "duet/core/philox.h"

#include "duet/core/error.h"
#include "duet/core/hash.h"

namespace duet {
namespace {

// SplitMix64 finaliser: spreads neighbouring tags over the whole stream space.
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

RandomKey RandomKey::child(uint64_t tag) const {
  return {seed, mix(stream ^ mix(tag)), salted};
}

uint64_t RandomKey::step_salt(uint64_t step) {
  return mix(mix(step) + 1);
}
RandomKey RandomKey::of_step(uint64_t seed, uint64_t step, uint64_t stream) {
  return {seed ^ step_salt(step), stream};
}

RandomKey RandomKey::child(std::string_view name) const {
  return child(fnv1a64(name));
}

uint32_t Random::next() {
  if (used_ == 4) {
    block_ = philox(key_, offset_++);
    used_ = 0;
  }
  return block_[static_cast<size_t>(used_++)];
}

uint64_t Random::below(uint64_t n) {
  check(n > 0, "random", "a number below 0 was asked for");
  // Rejection keeps it exactly uniform: numbers under 2^64 mod n are drawn again.
  const uint64_t floor = (0 - n) % n;
  for (;;) {
    const uint64_t x = uint64_t{next()} << 32 | next();
    if (x >= floor) return x % n;
  }
}

double Random::uniform() {
  const uint64_t x = uint64_t{next()} << 32 | next();
  return static_cast<double>(x >> 11) * 0x1p-53;
}

double Random::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

}  // namespace duet
