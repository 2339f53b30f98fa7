#include "duet/core/device.h"

#include "duet/core/error.h"

namespace duet {

Device parse_device(const std::string& name) {
  if (name == "cpu") return {};
  if (name.starts_with("cuda")) fail("device", "this build has no CUDA backend; use --device cpu");
  fail("device", "unknown device \"", name, "\"; use cpu");
}

}  // namespace duet
