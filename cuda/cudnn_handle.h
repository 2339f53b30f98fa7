#pragma once

#include <cudnn.h>

#include "duet/core/device.h"

namespace duet::cuda {

// The device's handle, on its compute stream; null where cuDNN cannot be used, which is said once.
cudnnHandle_t cudnn_handle(CudaContext which);

}  // namespace duet::cuda
