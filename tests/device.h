#pragma once

#include <cstdlib>
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

// Whether layer norms are asked of cuDNN.
inline bool with_cudnn_layer_norm() {
  const char* value = std::getenv("DUET_CUDNN_LAYER_NORM");
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace duet::testing
