#pragma once

#include <ostream>
#include <string>

#include "duet/core/error.h"

namespace duet {

enum class DeviceKind { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

inline std::ostream& operator<<(std::ostream& out, const Device& device) {
  return device.kind == DeviceKind::cpu ? out << "cpu" : out << "cuda:" << device.index;
}

// Accepts "cpu", "cuda", "cuda:I", and throws Error for anything else.
Device device_named(const std::string& name);
// Throws Error for a backend that this build lacks and for a device that this machine lacks, saying what is missing.
void require(const Device& device);
// Both.
Device parse_device(const std::string& name);

// Backends are overloads on a context tag. Those of CUDA live in cuda/; whatever calls them asks `cuda_built` first, at
// compile time, so that a build without CUDA neither has them nor needs stubs.
struct CpuContext {};
struct CudaContext {
  int index = 0;
};
inline constexpr bool cuda_built = DUET_CUDA_BUILT;

// Calls f(CpuContext{}) or f(CudaContext{index}).
template <class F>
decltype(auto) dispatch_device(const Device& device, F&& f) {
  if constexpr (cuda_built) {
    if (device.kind == DeviceKind::cuda) return f(CudaContext{device.index});
  }
  check(device.kind == DeviceKind::cpu, "device", "no kernels for ", device, " in this build");
  return f(CpuContext{});
}

// Waits until everything asked of the device is done, and throws the Error of a kernel that failed, such as an id
// outside the vocabulary. The CPU is always done.
void synchronize(const Device& device);

}  // namespace duet
