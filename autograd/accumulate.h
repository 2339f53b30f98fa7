#pragma once

#include "duet/core/tensor.h"

namespace duet {

// total += addend. An undefined total takes the addend's handle; memory that others look at is never changed.
void accumulate(Tensor& total, Tensor addend);

}  // namespace duet
