#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// Same elements in another shape; shares memory with x.
Variable reshape(const Variable& x, const Shape& shape);

}  // namespace duet::ops
