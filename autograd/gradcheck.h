#pragma once

#include <functional>
#include <string>
#include <vector>

#include "duet/autograd/variable.h"

namespace duet {

struct GradcheckResult {
  bool ok = true;
  double worst_error = 0;  // relative to the largest gradient element of that input (at least 1e-3)
  std::string worst;       // "input 1 element 7 at (1, 3): analytic 0.12, numeric 0.15"
};

// Compares analytic gradients with central differences in double precision, for every element of every float64 input
// that requires a gradient. The scalar is a fixed random projection of the output, so all output elements count.
GradcheckResult gradcheck(const std::function<Variable(const std::vector<Variable>&)>& f,
                          const std::vector<Variable>& inputs, double tolerance = 1e-6, double step = 1e-5);

}  // namespace duet
