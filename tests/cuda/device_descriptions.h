#pragma once

#include <string>

#include "duet/core/error.h"

namespace duet::testing {

// A device in the JSON form cuDNN reads, from NVIDIA's published specifications. The numbers not given are the same for
// compute capability 8.0, 9.0 and 10.0 (CUDA Programming Guide, table of technical specifications).
struct DeviceDescription {
  const char* name;
  int version;  // compute capability, 100 per major
  int multiprocessors;
  int shared_memory_per_block;  // bytes, on opt-in
  int64_t l2_cache, memory;     // bytes
  int clock, memory_clock;      // kHz
  int pci_device;

  std::string json() const {
    return text(R"({"deviceName":")", name, R"(","regsPerBlock":65536,"multiProcessorCount":)", multiprocessors,
                R"(,"warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":)",
                shared_memory_per_block, R"(,"reservedSharedMemoryPerBlock":1024,"l2CacheSize":)", l2_cache,
                R"(,"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"maxRegistersPerSM":65536,)",
                R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":)", pci_device,
                R"(,"isTccDriver":0,"supportCoopLaunch":1,"totalGlobalMem":)", memory, R"(,"smClockRateKHz":)", clock,
                R"(,"memClockRateKHz":)", memory_clock, R"(,"cudaDeviceId":0,"deviceVer":)", version,
                R"(,"driverVer":13000})");
  }
};

inline std::ostream& operator<<(std::ostream& out, const DeviceDescription& device) {
  return out << device.name;
}

inline constexpr DeviceDescription a100 = {
    "NVIDIA A100-SXM4-80GB", 800, 108, 166912, 41943040, 85094825984, 1410000, 1593000, 0x20B2};
inline constexpr DeviceDescription h100 = {
    "NVIDIA H100 80GB HBM3", 900, 132, 232448, 52428800, 85017493504, 1980000, 2619000, 0x2330};
inline constexpr DeviceDescription h200 = {"NVIDIA H200", 900,     132,     232448, 62914560,
                                           150754820096,  1980000, 3201000, 0x2335};
inline constexpr DeviceDescription b200 = {"NVIDIA B200", 1000,    148,     232448, 132644864,
                                           191514017792,  1965000, 3996000, 0x2901};
inline constexpr DeviceDescription v100 = {
    "Tesla V100-SXM2-32GB", 700, 80, 98304, 6291456, 34089730048, 1530000, 877000, 0x1DB5};

}  // namespace duet::testing
