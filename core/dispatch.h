#pragma once

#include <string_view>
#include <utility>

#include "duet/core/tensor.h"

namespace duet {

// Element conversion that also knows bf16.
template <class To, class From>
constexpr To convert(From value) {
  if constexpr (std::is_same_v<From, bf16>)
    return convert<To>(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, bf16>)
    return bf16(static_cast<float>(value));
  else
    return static_cast<To>(value);
}

// Calls f(Type<T>{}) for the element type, any dtype.
template <class F>
void dispatch_all(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64:
      return f(Type<double>{});
    case DType::f32:
      return f(Type<float>{});
    case DType::bf16:
      return f(Type<bf16>{});
    case DType::i64:
      return f(Type<int64_t>{});
    case DType::i32:
      return f(Type<int32_t>{});
    case DType::u8:
      return f(Type<uint8_t>{});
  }
}

// Calls f(context, Type<T>{}) for the tensor's backend and floating element type: the one place that chooses kernels.
// `where` names the op in errors.
template <class F>
void dispatch(std::string_view where, const Tensor& tensor, F&& f) {
  if constexpr (cuda_built) {
    if (tensor.device().kind == DeviceKind::cuda) {
      const CudaContext context{tensor.device().index};
      if (tensor.dtype() == DType::f32) return f(context, Type<float>{});
      if (tensor.dtype() == DType::bf16) return f(context, Type<bf16>{});
      fail(where, "no CUDA kernel for ", tensor, "; use float32 or bfloat16");
    }
  }
  check(tensor.device().kind == DeviceKind::cpu, where, "no kernels for ", tensor.device(), " in this build");
  if (tensor.dtype() == DType::f32) return f(CpuContext{}, Type<float>{});
  if (tensor.dtype() == DType::f64) return f(CpuContext{}, Type<double>{});
  if (tensor.dtype() == DType::bf16) return f(CpuContext{}, Type<bf16>{});
  fail(where, "no CPU kernel for ", tensor, "; use float32, bfloat16 or float64");
}
template <class F>
void dispatch(const Tensor& tensor, F&& f) {
  dispatch("dispatch", tensor, std::forward<F>(f));
}

// Calls f(Type<T>{}) for work that the CPU alone does, such as drawing initial values.
template <class F>
void dispatch_cpu(std::string_view where, const Tensor& tensor, F&& f) {
  check(tensor.device().kind == DeviceKind::cpu, where, "works on the CPU only, got ", tensor, " on ", tensor.device());
  if (tensor.dtype() == DType::f32) return f(Type<float>{});
  if (tensor.dtype() == DType::f64) return f(Type<double>{});
  fail(where, "takes float32 or float64, got ", tensor);
}

// Calls f(const Index*) for token ids and labels, which may be int32 or int64.
template <class F>
void dispatch_index(const Tensor& indices, std::string_view where, F&& f) {
  if (indices.dtype() == DType::i32) return f(static_cast<const int32_t*>(indices.data<int32_t>()));
  if (indices.dtype() == DType::i64) return f(static_cast<const int64_t*>(indices.data<int64_t>()));
  fail(where, "indices must be int32 or int64, got ", indices);
}

}  // namespace duet
