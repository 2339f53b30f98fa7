#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Converts to another floating dtype; the gradient is converted back.
Variable cast(const Variable& x, DType dtype);

}  // namespace duet::ops
