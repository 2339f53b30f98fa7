#include "duet/tools/machine.h"

#include <oneapi/dnnl/dnnl.h>

#include <fstream>
#include <iostream>
#include <thread>

#include "duet/core/backend.h"
#include "duet/core/cpu.h"
#include "duet/core/error.h"
#include "duet/core/parallel.h"

namespace duet::tools {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> sets;
#if defined(__x86_64__)
  // The compiler's function wants literals.
  if (__builtin_cpu_supports("sse4.2")) sets.emplace_back("SSE4.2");
  if (__builtin_cpu_supports("avx")) sets.emplace_back("AVX");
  if (__builtin_cpu_supports("fma")) sets.emplace_back("FMA");
  if (__builtin_cpu_supports("avx2")) sets.emplace_back("AVX2");
  if (__builtin_cpu_supports("avx512f")) sets.emplace_back("AVX-512");
  if (__builtin_cpu_supports("avx512vnni")) sets.emplace_back("AVX512-VNNI");
  if (__builtin_cpu_supports("avx512bf16")) sets.emplace_back("AVX512-BF16");
#endif
  return sets;
}

MachineMemory machine_memory() {
  MachineMemory memory;
  std::ifstream info("/proc/meminfo");
  std::string key;
  int64_t kibibytes = 0;
  while (info >> key >> kibibytes) {
    if (key == "MemTotal:") memory.total = kibibytes * 1024;
    if (key == "MemAvailable:") memory.available = kibibytes * 1024;
    info.ignore(4096, '\n');
  }
  return memory;
}

std::string usable_dtype(const Device& device, const std::string& dtype) {
  if (device.kind != DeviceKind::cpu || dtype != "bfloat16" || cpu_has_bfloat16()) return dtype;
  std::cerr << "duet: warning: this CPU has no bfloat16 instructions (AVX512-BF16); float32 is used instead of --dtype "
               "bfloat16\n";
  return "float32";
}

void use_threads(int count) {
  if (count == 0) return;
  const unsigned cores = std::thread::hardware_concurrency();
  if (cores > 0 && static_cast<unsigned>(count) > cores)
    std::cerr << "duet: warning: --threads " << count << " on " << cores
              << " cores: threads that wait for each other's "
              << "turns make a step slower\n";
  set_threads(count);
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return text(version->major, ".", version->minor, ".", version->patch);
}

std::string machine_description() {
  std::string kernels = text("kernels for ", name_of(cpu_instructions()));
  if (cpu_has_bfloat16()) kernels += " + bf16";
  return text("cpu: ", cpu_name(), ", ", threads(), " threads, ", kernels, ", oneDNN ", onednn_version());
}

std::string device_description(const Device& device) {
  if constexpr (cuda_built) {
    if (device.kind == DeviceKind::cuda) {
      const DeviceInformation d = describe(CudaContext{device.index});
      return text(device, ": ", d.name, ", compute capability ", d.capability, ", ", d.multiprocessors,
                  " multiprocessors, ", d.memory_bytes >> 20, " MiB, ", d.versions);
    }
  }
  return machine_description();
}

}  // namespace duet::tools
