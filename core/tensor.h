#pragma once

#include <algorithm>
#include <memory>
#include <ostream>
#include <span>
#include <vector>

#include "duet/core/device.h"
#include "duet/core/dtype.h"
#include "duet/core/shape.h"

namespace duet {

class CachingAllocator;

// A block of device memory from the caching allocator, shared by the tensors that look at it.
class Storage {
 public:
  Storage(size_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_;
  size_t bytes_;
  CachingAllocator* owner_;
};

// A contiguous row-major array. Copying a Tensor copies the handle, not the elements; `clone` copies elements.
class Tensor {
 public:
  Tensor() = default;
  static Tensor empty(const Shape& shape, DType dtype, Device device = {});
  static Tensor zeros(const Shape& shape, DType dtype, Device device = {});
  static Tensor full(const Shape& shape, DType dtype, double value, Device device = {});
  static Tensor arange(int64_t count, Device device = {});  // 0, 1, 2, ..., int64
  // Takes the element type from `values`; throws Error when the count differs from the shape's.
  template <class T>
  static Tensor from(const Shape& shape, const std::vector<T>& values);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  size_t bytes() const {
    size_t result = 0;
    check(!__builtin_mul_overflow(static_cast<size_t>(numel()), size_of(dtype_), &result), "tensor", *this,
          " is too large to count its bytes");
    return result;
  }

  // Elements, in the memory of the tensor's device; throws Error when T is not the tensor's dtype, and for a tensor
  // that was never given memory.
  template <class T>
  T* data() const {
    check_defined();
    check(dtype_of<T>() == dtype_, "tensor", "read as ", dtype_of<T>(), " but holds ", dtype_);
    return reinterpret_cast<T*>(raw());
  }
  template <class T>
  std::span<T> values() const {
    check(device_.kind == DeviceKind::cpu, "tensor", "the values of ", *this, " are on ", device_, ", not on the CPU");
    return {data<T>(), static_cast<size_t>(numel())};
  }
  std::byte* raw() const { return storage_ ? storage_->data() + offset_ : nullptr; }

  // The only element as double, whatever the dtype.
  double item() const;
  // Element i of the flattened tensor as double; for tests, logs and small host-side reads. Waits for the device.
  double at(int64_t i) const;

  // Same elements, other shape; shares memory.
  Tensor reshape(const Shape& shape) const;
  // Rows [begin, end) of the first dimension; shares memory.
  Tensor rows_view(int64_t begin, int64_t end) const;
  Tensor clone() const;
  // Converts the element type, or moves to another device; shares memory when it already matches.
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;

  void fill(double value) const;
  void copy_from(const Tensor& source) const;  // same shape and dtype; any device

  // True when no other tensor looks at this memory, so that it may be updated in place.
  bool unique() const { return storage_.use_count() == 1; }

 private:
  void check_defined() const { check(defined(), "tensor", "used before it was given a value"); }

  std::shared_ptr<Storage> storage_;
  size_t offset_ = 0;  // bytes
  Shape shape_;
  DType dtype_ = DType::f32;
  Device device_;
};

inline Tensor empty_like(const Tensor& like) {
  return Tensor::empty(like.shape(), like.dtype(), like.device());
}
inline Tensor zeros_like(const Tensor& like) {
  return Tensor::zeros(like.shape(), like.dtype(), like.device());
}

template <class T>
Tensor Tensor::from(const Shape& shape, const std::vector<T>& values) {
  check(shape.numel() == static_cast<int64_t>(values.size()), "tensor", values.size(), " values for shape ", shape);
  Tensor tensor = empty(shape, dtype_of<T>());
  std::copy(values.begin(), values.end(), tensor.data<T>());
  return tensor;
}

// Prints shape and dtype, as error messages want them: "(8, 197, 768) float32".
inline std::ostream& operator<<(std::ostream& out, const Tensor& tensor) {
  if (!tensor.defined()) return out << "(no tensor)";
  return out << tensor.shape() << ' ' << tensor.dtype();
}

// Throws Error unless all tensors that are defined are on one device.
void check_same_device(const char* op, std::initializer_list<Tensor> tensors);

// A matrix view for kernels: `count` rows of `width` elements, one after the other.
template <class T>
struct Rows {
  T* data;
  int64_t count;
  int64_t width;
  constexpr T* row(int64_t i) const { return data + i * width; }
};

// Product of all dimensions but the last; 1 for rank 0.
inline int64_t rows_of(const Tensor& tensor) {
  return tensor.shape().product(0, std::max(tensor.rank() - 1, 0));
}

// All leading dimensions folded into rows, the last dimension as the row. Rank 0 is one row of one element.
template <class T>
Rows<T> rows(const Tensor& tensor) {
  return {tensor.data<std::remove_const_t<T>>(), rows_of(tensor), tensor.rank() ? tensor.dim(-1) : 1};
}

}  // namespace duet
