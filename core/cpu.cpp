#include "duet/core/cpu.h"

#include <cstdlib>
#include <string>

#include "duet/core/error.h"

namespace duet {
namespace {

constexpr CpuInstructions widest_first[] = {CpuInstructions::avx512, CpuInstructions::avx2, CpuInstructions::baseline};

CpuInstructions chosen() {
  const char* value = std::getenv("DUET_CPU_ISA");
  for (const CpuInstructions set : widest_first) {
    if (value != nullptr && *value != '\0' && value != name_of(set)) continue;
    if (cpu_has(set)) return set;
    check(value == nullptr || *value == '\0', "cpu", "DUET_CPU_ISA=", value, ": this processor lacks the instructions");
  }
  fail("cpu", "DUET_CPU_ISA=", value, " is unknown; use avx512, avx2 or baseline");
}

}  // namespace

std::string_view name_of(CpuInstructions instructions) {
  switch (instructions) {
    case CpuInstructions::avx512:
      return "avx512";
    case CpuInstructions::avx2:
      return "avx2";
    case CpuInstructions::baseline:
      break;
  }
  return "baseline";
}

bool cpu_has(CpuInstructions instructions) {
  if (instructions == CpuInstructions::baseline) return true;
#if defined(__x86_64__)
  // The compiler's function wants literals.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
  return instructions == CpuInstructions::avx2 ||
         (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"));
#else
  return false;
#endif
}

CpuInstructions cpu_instructions() {
  static const CpuInstructions result = chosen();
  return result;
}

bool cpu_has_bfloat16() {
  static const bool result = [] {
    const char* value = std::getenv("DUET_CPU_BFLOAT16");
    if (value != nullptr && std::string_view(value) == "0") return false;
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return false;
#endif
  }();
  return result;
}

}  // namespace duet
