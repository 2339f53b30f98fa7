#pragma once

#include <array>

#include "duet/core/backend.h"
#include "duet/train/batch.h"

namespace duet::train {

// Brings batches to the device. Images, nearly all of the bytes, travel beside the kernels of the step before: two
// buffers take turns. On the CPU there is nothing to do.
class DeviceBatches {
 public:
  explicit DeviceBatches(Device device) : device_(device) {}
  // The batch on the device, valid until two more were uploaded.
  Batch upload(const Batch& batch);
  // After the kernels that read the batch uploaded last were asked for.
  void used();

 private:
  Device device_;
  std::array<Tensor, upload_lanes> images_;
  int lane_ = 0;
  bool in_lane_ = false;  // whether the last upload used the lane
};

}  // namespace duet::train
