#pragma once

#include <string_view>

namespace duet {

// Sets of instructions that kernels are compiled for and chosen by when the program runs, whatever the rest is compiled
// for (DUET_NATIVE). baseline: what every processor of this kind has; avx2: with FMA; avx512: F, BW, VL and DQ.
enum class CpuInstructions { baseline, avx2, avx512 };

// As in DUET_CPU_ISA.
std::string_view name_of(CpuInstructions instructions);
// Whether this processor has them.
bool cpu_has(CpuInstructions instructions);
// What kernels use: the widest that the processor has, or those that DUET_CPU_ISA in the environment names, read once.
// Throws Error when it names unknown ones or such that the processor lacks.
CpuInstructions cpu_instructions();

// Whether this processor multiplies bfloat16 (AVX512-BF16; those with AMX-BF16 have that too). Without, the kernels
// give right results all the same, by way of float32 products, but no faster. DUET_CPU_BFLOAT16=0 in the environment,
// read once, makes it false. It also decides how floats are rounded to bfloat16, to the same bits either way.
bool cpu_has_bfloat16();
// Whether AVX512-BF16 multiplies faster than float32's multiply-adds: twice as fast on AMD's processors (Zen 4 and 5),
// but half as fast on Intel's (Emerald Rapids). DUET_CPU_BFLOAT16=1 makes it true wherever the instructions are.
bool cpu_has_fast_bfloat16();
// Whether the maker is Intel. Which of several kernels is used goes by the maker where only measuring could tell:
// timings would make results differ from run to run.
bool cpu_is_intel();
// AMX-BF16, which is for oneDNN to use; DUET_CPU_BFLOAT16=0 makes it false.
bool cpu_has_amx_bfloat16();

}  // namespace duet
