#pragma once

#include <vector>

#include "duet/core/tensor.h"

namespace duet::testing {

// All elements, one row after the other.
inline std::vector<double> values(const Tensor& t) {
  std::vector<double> result;
  for (int64_t i = 0; i < t.numel(); ++i) result.push_back(t.at(i));
  return result;
}

}  // namespace duet::testing
