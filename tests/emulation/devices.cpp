// Devices, and launching kernels on them.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/emulation.h"
#include "duet/tests/emulation/kernel_call.h"
#include "duet/tests/emulation/runtime.h"
#include "duet/tests/emulation/scheduler.h"

namespace duet::emulation {

namespace {
thread_local int device_index = 0;  // each host thread has its own

// What cudaFuncSetAttribute allowed a kernel; others may have 48 KiB.
std::map<const void*, size_t>& dynamic_shared_limits() {
  static auto& limits = *new std::map<const void*, size_t>;
  return limits;
}
constexpr int kMultiprocessors = 132;
}  // namespace

int current_device() {
  return device_index;
}

cudaError_t launch(const cudaLaunchConfig_t& config, KernelCall call) {
  const auto lock = lock_runtime();
  const dim3 grid = config.gridDim, block = config.blockDim;
  CUstream_st* stream = resolve(config.stream);
  if (!stream) return report(cudaErrorInvalidResourceHandle, "unknown stream");
  static auto& names = *new std::map<const void*, std::string>;
  std::string& name = names[call.kernel];
  if (name.empty()) name = symbol_name(reinterpret_cast<uintptr_t>(call.kernel));
  const auto shape = [&] {
    return text("launch of ", name, " with grid (", grid.x, ",", grid.y, ",", grid.z, "), block (", block.x, ",",
                block.y, ",", block.z, ")");
  };
  if (stream->device != current_device()) {
    return report(cudaErrorInvalidResourceHandle, text(shape(), ": its stream belongs to device ", stream->device,
                                                       ", the current device is ", current_device()));
  }
  const bool grid_good =
      grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
  const bool block_good = block.x >= 1 && block.y >= 1 && block.z >= 1 && block.x <= kMaxThreads &&
                          block.y <= kMaxThreads && block.z <= 64 &&
                          uint64_t{block.x} * block.y * block.z <= kMaxThreads;
  if (!grid_good || !block_good) return report(cudaErrorInvalidConfiguration, shape());
  if (uint64_t{grid.x} * grid.y * grid.z >= kManyBlocks) {
    return report(cudaErrorNotSupported, text(shape(), ": more blocks than the emulation can number"));
  }
  const auto limit = dynamic_shared_limits().find(call.kernel);
  const size_t most = limit == dynamic_shared_limits().end() ? 48 << 10 : limit->second;
  if (config.dynamicSmemBytes > most) {
    return report(cudaErrorInvalidValue, text(shape(), ": ", config.dynamicSmemBytes,
                                              " bytes of dynamic shared memory, and the kernel may have ", most));
  }
  call.shared_bytes = config.dynamicSmemBytes;
  for (unsigned i = 0; i < config.numAttrs; i++) {
    const auto id = config.attrs[i].id;
    if (id != cudaLaunchAttributePriority && id != cudaLaunchAttributeIgnore) {
      return report(cudaErrorNotSupported, text(shape(), ": launch attribute ", static_cast<int>(id)));
    }
  }
  install_signal_handler();
  return submit(*stream, {Node::Kind::kernel, name, [call, grid, block] { run_grid(call, grid, block); }});
}

}  // namespace duet::emulation

using namespace duet::emulation;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  const auto lock = lock_runtime();
  if (!count) return report(cudaErrorInvalidValue);
  *count = device_count();
  return report(device_count() == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
  const auto lock = lock_runtime();
  if (!device) return report(cudaErrorInvalidValue);
  *device = device_index;
  return report(cudaSuccess);
}

cudaError_t cudaSetDevice(int device) {
  const auto lock = lock_runtime();
  if (device < 0 || device >= device_count()) return report(cudaErrorInvalidDevice);
  device_index = device;
  return report(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const auto lock = lock_runtime();
  if (!value) return report(cudaErrorInvalidValue);
  if (device < 0 || device >= device_count()) return report(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = kMaxThreads;
      break;
    case cudaDevAttrMaxBlockDimX:
      *value = 1024;
      break;
    case cudaDevAttrMaxBlockDimY:
      *value = 1024;
      break;
    case cudaDevAttrMaxBlockDimZ:
      *value = 64;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = 0x7fffffff;
      break;
    case cudaDevAttrMaxGridDimY:
      *value = 65535;
      break;
    case cudaDevAttrMaxGridDimZ:
      *value = 65535;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 48 << 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kMaxDynamicShared;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = 228 << 10;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrTotalConstantMemory:
      *value = 64 << 10;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
      *value = 65536;
      break;
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = 65536;
      break;
    case cudaDevAttrClockRate:
      *value = 1980000;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = 2619000;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = 5120;
      break;
    case cudaDevAttrL2CacheSize:
      *value = 50 << 20;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = 32;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    case cudaDevAttrUnifiedAddressing:
      *value = 1;
      break;
    case cudaDevAttrConcurrentKernels:
      *value = 1;
      break;
    case cudaDevAttrAsyncEngineCount:
      *value = 3;
      break;
    case cudaDevAttrComputeMode:
      *value = cudaComputeModeDefault;
      break;
    case cudaDevAttrManagedMemory:
    case cudaDevAttrConcurrentManagedAccess:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrMemoryPoolsSupported:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrIntegrated:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrKernelExecTimeout:
      *value = 0;
      break;
    default:
      return report(cudaErrorInvalidValue, duet::text("device attribute ", static_cast<int>(attribute)));
  }
  return report(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const auto lock = lock_runtime();
  if (!properties) return report(cudaErrorInvalidValue);
  if (device < 0 || device >= device_count()) return report(cudaErrorInvalidDevice);
  open_arena();
  cudaDeviceProp& p = *properties;
  std::memset(&p, 0, sizeof(p));
  std::snprintf(p.name, sizeof(p.name), "emulated device");
  p.totalGlobalMem = arena.device_bytes;
  p.sharedMemPerBlock = 48 << 10;
  p.sharedMemPerBlockOptin = kMaxDynamicShared;
  p.sharedMemPerMultiprocessor = 228 << 10;
  p.reservedSharedMemPerBlock = 1024;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.warpSize = 32;
  p.memPitch = 0x7fffffff;
  p.maxThreadsPerBlock = kMaxThreads;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 0x7fffffff;
  p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.totalConstMem = 64 << 10;
  p.major = 9;
  p.minor = 0;
  p.multiProcessorCount = kMultiprocessors;
  p.maxThreadsPerMultiProcessor = 2048;
  p.maxBlocksPerMultiProcessor = 32;
  p.l2CacheSize = 50 << 20;
  p.memoryBusWidth = 5120;
  p.asyncEngineCount = 3;
  p.concurrentKernels = 1;
  p.unifiedAddressing = 1;
  p.canMapHostMemory = 1;
  p.pciBusID = device + 1;
  return report(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int* version) {
  if (!version) return report(cudaErrorInvalidValue);
  *version = CUDART_VERSION;
  return report(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  return cudaDriverGetVersion(version);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const auto lock = lock_runtime();
  if (!attributes) return report(cudaErrorInvalidValue);
  if (symbol_name(reinterpret_cast<uintptr_t>(function)).empty()) return report(cudaErrorInvalidDeviceFunction);
  std::memset(attributes, 0, sizeof(*attributes));
  attributes->maxThreadsPerBlock = kMaxThreads;
  attributes->numRegs = 32;
  attributes->ptxVersion = attributes->binaryVersion = 90;
  return report(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const auto lock = lock_runtime();
  if (symbol_name(reinterpret_cast<uintptr_t>(function)).empty()) return report(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || static_cast<size_t>(value) > kMaxDynamicShared) return report(cudaErrorInvalidValue);
    dynamic_shared_limits()[function] = static_cast<size_t>(value);
  }
  return report(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int block_size,
                                                                   size_t shared_bytes, unsigned) {
  const auto lock = lock_runtime();
  if (!blocks || block_size < 1) return report(cudaErrorInvalidValue);
  if (symbol_name(reinterpret_cast<uintptr_t>(function)).empty()) return report(cudaErrorInvalidDeviceFunction);
  int count = block_size > static_cast<int>(kMaxThreads) ? 0 : std::min(32, 2048 / ((block_size + 31) / 32 * 32));
  if (shared_bytes > 0) count = std::min(count, static_cast<int>((228u << 10) / (shared_bytes + 1024)));
  *blocks = count;
  return report(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int block_size,
                                                          size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, shared_bytes, 0);
}
}
