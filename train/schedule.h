#pragma once

#include <cstdint>
#include <string>

namespace duet::train {

// Learning-rate multiplier over optimizer steps: a linear rise over `warmup` steps from 0, then constant, linear to 0,
// or half a cosine to 0 at `total`.
struct Schedule {
  enum class Kind { constant, linear, cosine } kind = Kind::linear;
  int64_t warmup = 0;
  int64_t total = 0;

  // `step` is the number of optimizer steps already done; the first step uses 0.
  double at(int64_t step) const;
};

// "constant", "linear" or "cosine"; throws Error for anything else.
Schedule::Kind parse_schedule(const std::string& name);

}  // namespace duet::train
