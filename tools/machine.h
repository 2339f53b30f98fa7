#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "duet/core/device.h"

namespace duet::tools {

// As the operating system names it, e.g. "AMD EPYC".
std::string cpu_name();
// Vector instruction sets that this processor has, in ascending order: "SSE4.2", "AVX2", "AVX-512", ...
std::vector<std::string> instruction_sets();
// Physical memory of the machine and what of it is free for programs now, in bytes; 0 when unknown.
struct MachineMemory {
  int64_t total = 0, available = 0;
};
MachineMemory machine_memory();
// What `device` computes in when asked for `dtype`: float32 instead of bfloat16, after a line on stderr that says so,
// on a CPU whose instructions would make bfloat16 slower than that.
std::string usable_dtype(const Device& device, const std::string& dtype);
// Computes with `count` threads, unless that is 0, which leaves one per core; more than the cores get a warning.
void use_threads(int count);
// The version of oneDNN that is loaded, e.g. "2.6.3".
std::string onednn_version();

// "cpu: AMD EPYC, 2 threads, kernels for avx512 + bf16, oneDNN 2.6.3".
std::string machine_description();
// The same of any device: "cuda:0: NVIDIA H100 80GB HBM3, compute capability 9.0, 79.1 GiB, ...".
std::string device_description(const Device& device);

}  // namespace duet::tools
