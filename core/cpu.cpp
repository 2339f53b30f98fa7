#include "duet/core/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

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

std::string_view bfloat16_setting() {
  const char* value = std::getenv("DUET_CPU_BFLOAT16");
  return value != nullptr ? value : "";
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
    if (bfloat16_setting() == "0") return false;
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return false;
#endif
  }();
  return result;
}

bool cpu_has_fast_bfloat16() {
#if defined(__x86_64__)
  static const bool result = cpu_has_bfloat16() && (__builtin_cpu_is("amd") != 0 || bfloat16_setting() == "1");
  return result;
#else
  return cpu_has_bfloat16();
#endif
}

bool cpu_is_intel() {
#if defined(__x86_64__)
  static const bool result = __builtin_cpu_is("intel") != 0;
  return result;
#else
  return false;
#endif
}

bool cpu_has_amx_bfloat16() {
#if defined(__x86_64__)
  static const bool result = [] {
    constexpr unsigned extended_features = 7, amx_bf16 = 1u << 22;
    unsigned a = 0, b = 0, c = 0, d = 0;
    return cpu_has_bfloat16() && __get_cpuid_count(extended_features, 0, &a, &b, &c, &d) != 0 && (d & amx_bf16) != 0;
  }();
  return result;
#else
  return false;
#endif
}

}  // namespace duet
