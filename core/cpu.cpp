#include "duet/core/cpu.h"

#include <cstdlib>
#include <string_view>

namespace duet {

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
