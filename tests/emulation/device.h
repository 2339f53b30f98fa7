// The forced include of the CUDA emulation: what nvcc knows and g++ does not. The product's .cu files are compiled with
// it by the host compiler, against the real toolkit headers, and run on the CPU by the runtime in this folder.
#pragma once

// The toolkit's own template would end in cudaLaunchKernelExC, which receives arguments without their sizes.
#define cudaLaunchKernelEx duet_toolkit_launch_kernel_ex
#include <cuda_runtime.h>
#undef cudaLaunchKernelEx
#define __DEVICE_LAUNCH_PARAMETERS_H__

// Constants as far as one thread can tell, and all uint3: reading a constant dim3 would be checked as a memory access.
extern "C" {
extern const uint3 threadIdx;
extern const uint3 blockIdx;
extern const uint3 blockDim;
extern const uint3 gridDim;
extern const int warpSize;
}

#include <cstring>
#include <type_traits>
#include <utility>

#include "duet/tests/emulation/kernel_call.h"

// Static variables stand for shared memory: one block runs at a time. The runtime forgets their contents between
// blocks.
#undef __shared__
#define __shared__ static
#define __launch_bounds__(...)
// What a launch asks for besides (device.cuh).
#define DUET_DYNAMIC_SHARED(name) float4* const name = reinterpret_cast<float4*>(duet::emulation::dynamic_shared_memory)

namespace duet::emulation {

template <class Kernel, class... P>
struct Invoker {
  // Arguments lie one after another, each at its alignment.
  struct Layout {
    size_t offsets[sizeof...(P) + 1] = {};
    size_t bytes = 0;
  };
  static constexpr Layout layout() {
    Layout result;
    size_t at = sizeof(Kernel), index = 0;
    ((at = (at + alignof(P) - 1) / alignof(P) * alignof(P), result.offsets[index++] = at, at += sizeof(P)), ...);
    result.bytes = at;
    return result;
  }
  static constexpr Layout kLayout = layout();

  template <size_t... I>
  __attribute__((no_sanitize("thread", "undefined"))) static void call(const std::byte* arguments,
                                                                       std::index_sequence<I...>) {
    Kernel kernel = *reinterpret_cast<const Kernel*>(arguments);
    kernel(*reinterpret_cast<const P*>(arguments + kLayout.offsets[I])...);
  }
  __attribute__((no_sanitize("thread", "undefined"))) static void invoke(const std::byte* arguments) {
    call(arguments, std::index_sequence_for<P...>{});
  }
};

}  // namespace duet::emulation

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  using Kernel = void (*)(P...);
  using Invoker = duet::emulation::Invoker<Kernel, std::remove_cv_t<P>...>;
  static_assert(sizeof...(P) == sizeof...(A), "wrong number of kernel arguments");
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel parameters must be trivially copyable values");
  static_assert(Invoker::kLayout.bytes - sizeof(Kernel) <= 4096, "more than 4 KiB of kernel arguments");
  duet::emulation::KernelCall call;
  call.kernel = reinterpret_cast<const void*>(kernel);
  call.argument_bytes = Invoker::kLayout.bytes;
  call.arguments.reset(new (std::align_val_t{64}) std::byte[Invoker::kLayout.bytes],
                       [](std::byte* p) { ::operator delete[](p, std::align_val_t{64}); });
  std::memcpy(call.arguments.get(), &kernel, sizeof(kernel));
  [[maybe_unused]] size_t index = 0;
  (
      [&] {
        const std::remove_cv_t<P> value = static_cast<P>(arguments);
        std::memcpy(call.arguments.get() + Invoker::kLayout.offsets[index++], &value, sizeof(value));
      }(),
      ...);
  call.invoke = &Invoker::invoke;
  return duet::emulation::launch(*config, std::move(call));
}

template <class... P>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(P...)) {
  return ::cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value) {
  return ::cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

#include "duet/tests/emulation/device_intrinsics.h"
