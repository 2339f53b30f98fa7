#include "duet/train/device_batches.h"

namespace duet::train {

Batch DeviceBatches::upload(const Batch& batch) {
  in_lane_ = false;
  if constexpr (cuda_built) {
    if (device_.kind == DeviceKind::cuda && batch.images.defined()) {
      const CudaContext context{device_.index};
      lane_ = (lane_ + 1) % upload_lanes;
      Tensor& buffer = images_.at(static_cast<size_t>(lane_));
      if (!buffer.defined() || buffer.shape() != batch.images.shape()) {
        // The allocator's blocks are safe to use in the order of the kernels, not beside them.
        buffer = Tensor::empty(batch.images.shape(), batch.images.dtype(), device_);
        synchronize(device_);
      }
      upload_begin(context, lane_, buffer.raw(), batch.images.raw(), batch.images.bytes());
      Batch rest = batch;
      rest.images = {};
      Batch there = rest.to(device_);
      there.images = buffer;
      upload_await(context, lane_);
      in_lane_ = true;
      return there;
    }
  }
  return batch.to(device_);
}

void DeviceBatches::used() {
  if constexpr (cuda_built) {
    if (in_lane_) upload_used(CudaContext{device_.index}, lane_);
  }
}

}  // namespace duet::train
