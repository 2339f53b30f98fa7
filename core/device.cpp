#include "duet/core/device.h"

#include <charconv>

#include "duet/core/backend.h"

namespace duet {

Device device_named(const std::string& name) {
  if (name == "cpu") return {};
  Device device{DeviceKind::cuda, 0};
  bool known = name == "cuda";
  if (name.starts_with("cuda:")) {
    const char *begin = name.data() + 5, *end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(begin, end, device.index);
    known = error == std::errc() && stop == end && device.index >= 0 && begin != end;
  }
  check(known, "device", "unknown device \"", name, "\"; use cpu, cuda or cuda:INDEX");
  return device;
}

void require(const Device& device) {
  if (device.kind == DeviceKind::cpu) return;
  if constexpr (cuda_built)
    require(CudaContext{device.index});
  else
    fail("device", "this build has no CUDA backend; use --device cpu, or configure with -DDUET_CUDA=ON");
}

Device parse_device(const std::string& name) {
  const Device device = device_named(name);
  require(device);
  return device;
}

void synchronize(const Device& device) {
  if constexpr (cuda_built) {
    if (device.kind == DeviceKind::cuda) synchronize(CudaContext{device.index});
  }
}

}  // namespace duet
