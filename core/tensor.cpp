#include "duet/core/tensor.h"

#include <algorithm>
#include <cstring>

#include "duet/core/backend.h"
#include "duet/core/dispatch.h"

namespace duet {

Storage::Storage(size_t bytes, Device device)
    : bytes_(std::max<size_t>(bytes, 1)),
      owner_(dispatch_device(device, [](auto context) { return &allocator(context); })) {
  data_ = static_cast<std::byte*>(owner_->allocate(bytes_));
}

Storage::~Storage() {
  owner_->release(data_, bytes_);
}

namespace {

void copy(const Device& to_device, void* to, const Device& from_device, const void* from, size_t bytes) {
  if constexpr (cuda_built) {
    const Device& there = to_device.kind == DeviceKind::cuda ? to_device : from_device;
    // Another GPU's kernels are in no order with this one's.
    if (from_device.kind == DeviceKind::cuda && to_device.kind == DeviceKind::cuda && from_device != to_device)
      synchronize(from_device);
    if (there.kind == DeviceKind::cuda)
      return copy_bytes(CudaContext{there.index}, to, from, bytes, to_device.kind == DeviceKind::cpu,
                        from_device.kind == DeviceKind::cpu);
  }
  std::memcpy(to, from, bytes);
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor tensor;
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  tensor.device_ = device;
  tensor.storage_ = std::make_shared<Storage>(tensor.bytes(), device);
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  dispatch_device(device, [&](auto context) { zero_bytes(context, tensor.raw(), tensor.bytes()); });
  return tensor;
}

Tensor Tensor::full(const Shape& shape, DType dtype, double value, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  tensor.fill(value);
  return tensor;
}

Tensor Tensor::arange(int64_t count, Device device) {
  Tensor tensor = empty({count}, DType::i64, device);
  dispatch_device(device, [&](auto context) { count_elements(context, tensor.data<int64_t>(), count); });
  return tensor;
}

void Tensor::fill(double value) const {
  dispatch_all(dtype_, [&]<class T>(Type<T>) {
    dispatch_device(device_, [&](auto context) { fill_elements<T>(context, data<T>(), numel(), convert<T>(value)); });
  });
}

double Tensor::at(int64_t i) const {
  check_defined();
  check(i >= 0 && i < numel(), "tensor", "element ", i, " of ", *this);
  double value = 0;
  dispatch_all(dtype_, [&]<class T>(Type<T>) {
    T element;
    copy({}, &element, device_, data<T>() + i, sizeof element);
    value = convert<double>(element);
  });
  return value;
}

double Tensor::item() const {
  check(defined() && numel() == 1, "tensor", "item() wants one element, this is ", *this);
  return at(0);
}

Tensor Tensor::reshape(const Shape& shape) const {
  check_defined();
  check(shape.numel() == numel(), "reshape", *this, " does not fit ", shape);
  Tensor result = *this;
  result.shape_ = shape;
  return result;
}

Tensor Tensor::rows_view(int64_t begin, int64_t end) const {
  check_defined();
  check(rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0), "rows_view", "rows [", begin, ", ", end, ") of ",
        *this);
  Tensor result = *this;
  result.shape_.set(0, end - begin);
  result.offset_ += static_cast<size_t>(begin * shape_.product(1, rank())) * size_of(dtype_);
  return result;
}

Tensor Tensor::clone() const {
  check_defined();
  Tensor result = empty(shape_, dtype_, device_);
  result.copy_from(*this);
  return result;
}

void Tensor::copy_from(const Tensor& source) const {
  check(defined() && source.defined() && source.shape() == shape_ && source.dtype() == dtype_, "copy", "from ", source,
        " to ", *this);
  copy(device_, raw(), source.device(), source.raw(), bytes());
}

Tensor Tensor::to(DType dtype) const {
  check_defined();
  if (dtype == dtype_) return *this;
  Tensor result = empty(shape_, dtype, device_);
  dispatch_all(dtype_, [&]<class From>(Type<From>) {
    dispatch_all(dtype, [&]<class To>(Type<To>) {
      dispatch_device(device_, [&](auto context) {
        convert_elements<To, From>(context, data<From>(), result.data<To>(), numel());
      });
    });
  });
  return result;
}

Tensor Tensor::to(Device device) const {
  check_defined();
  if (device == device_) return *this;
  Tensor result = empty(shape_, dtype_, device);
  result.copy_from(*this);
  return result;
}

void check_same_device(const char* op, std::initializer_list<Tensor> tensors) {
  const Tensor* first = nullptr;
  for (const Tensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    if (first == nullptr) first = &tensor;
    check(tensor.device() == first->device(), op, *first, " is on ", first->device(), ", ", tensor, " on ",
          tensor.device(), "; move one with Tensor::to");
  }
}

}  // namespace duet
