#include "duet/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "duet/core/error.h"

namespace duet::train {

double Schedule::at(int64_t step) const {
  if (step < warmup) return static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup));
  const double rest = static_cast<double>(std::max<int64_t>(1, total - warmup));
  const double progress = std::clamp(static_cast<double>(step - warmup) / rest, 0.0, 1.0);
  switch (kind) {
    case Kind::constant:
      return 1;
    case Kind::linear:
      return 1 - progress;
    case Kind::cosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
  return 1;
}

Schedule::Kind parse_schedule(const std::string& name) {
  if (name == "constant") return Schedule::Kind::constant;
  if (name == "linear") return Schedule::Kind::linear;
  if (name == "cosine") return Schedule::Kind::cosine;
  fail("schedule", "unknown schedule \"", name, "\"; use constant, linear or cosine");
}

}  // namespace duet::train
