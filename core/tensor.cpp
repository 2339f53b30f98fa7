#include "duet/core/tensor.h"

#include <algorithm>
#include <cstring>

#include "duet/core/allocator.h"
#include "duet/core/dispatch.h"

namespace duet {

Storage::Storage(size_t bytes, Device device) : bytes_(std::max<size_t>(bytes, 1)) {
  check(device.kind == DeviceKind::cpu, "storage", "no allocator for ", device, " in this build");
  data_ = static_cast<std::byte*>(cpu_allocator().allocate(bytes_));
}

Storage::~Storage() {
  cpu_allocator().release(data_, bytes_);
}

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
  std::memset(tensor.raw(), 0, tensor.bytes());
  return tensor;
}

Tensor Tensor::full(const Shape& shape, DType dtype, double value) {
  Tensor tensor = empty(shape, dtype);
  tensor.fill(value);
  return tensor;
}

void Tensor::fill(double value) const {
  dispatch_all(dtype_, [&]<class T>(Type<T>) {
    const T converted = convert<T>(value);
    std::fill_n(data<T>(), numel(), converted);
  });
}

double Tensor::at(int64_t i) const {
  check_defined();
  check(i >= 0 && i < numel(), "tensor", "element ", i, " of ", *this);
  double value = 0;
  dispatch_all(dtype_, [&]<class T>(Type<T>) { value = convert<double>(data<T>()[i]); });
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
  std::memcpy(result.raw(), raw(), bytes());
  return result;
}

void Tensor::copy_from(const Tensor& source) const {
  check(defined() && source.defined() && source.shape() == shape_ && source.dtype() == dtype_, "copy", "from ", source,
        " to ", *this);
  std::memcpy(raw(), source.raw(), bytes());
}

Tensor Tensor::to(DType dtype) const {
  check_defined();
  if (dtype == dtype_) return *this;
  Tensor result = empty(shape_, dtype, device_);
  dispatch_all(dtype_, [&]<class From>(Type<From>) {
    dispatch_all(dtype, [&]<class To>(Type<To>) {
      std::transform(data<From>(), data<From>() + numel(), result.data<To>(),
                     [](From value) { return convert<To>(value); });
    });
  });
  return result;
}

}  // namespace duet
