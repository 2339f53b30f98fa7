#pragma once

#include <string_view>

#include "duet/core/device.h"

// The device that a test binary is about. Some sources are compiled twice, for the CPU and for CUDA, where the latter
// is a GPU or the emulation, whichever the binary is linked with.
#ifndef DUET_TEST_DEVICE
#define DUET_TEST_DEVICE "cpu"
#endif

namespace duet::testing {

// It need not exist: tests are named before main() looks.
inline Device device() {
  return {std::string_view(DUET_TEST_DEVICE) == "cuda" ? DeviceKind::cuda : DeviceKind::cpu, 0};
}
inline bool on_cuda() {
  return device().kind == DeviceKind::cuda;
}

}  // namespace duet::testing
