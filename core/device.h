#pragma once

#include <ostream>
#include <string>

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

// Accepts "cpu", "cuda", "cuda:I". Throws Error for anything else and for a backend that this build lacks.
Device parse_device(const std::string& name);

// Backends are overloads on a context tag; CUDA adds its own.
struct CpuContext {};

}  // namespace duet
