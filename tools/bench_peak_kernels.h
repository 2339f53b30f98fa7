#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace duet::tools {

// A loop of multiply-adds that lives in registers alone, so that nothing but the arithmetic units limits it.
struct PeakKernel {
  std::string_view name;         // the instructions it uses, e.g. "AVX-512 FMA"
  double flops_per_round;        // 2 per multiply-add
  float (*run)(int64_t rounds);  // the result only keeps the compiler from dropping the work
};

// The widest float32 kernel that this processor has, chosen at run time as oneDNN chooses its own.
PeakKernel float32_peak_kernel();
// Pairs of bf16 products added to float32 sums; none where the processor lacks AVX512-BF16.
std::optional<PeakKernel> bfloat16_peak_kernel();

}  // namespace duet::tools
