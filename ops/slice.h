#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Elements [begin, end) of `axis`; the dimension stays. The gradient is zero elsewhere.
Variable slice(const Variable& x, int axis, int64_t begin, int64_t end);

}  // namespace duet::ops
