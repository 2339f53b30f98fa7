#pragma once

namespace duet {

// Whether this processor multiplies bfloat16 (AVX512-BF16; those with AMX-BF16 have that too). Without, the kernels
// give right results all the same, by way of float32 products, but no faster. DUET_CPU_BFLOAT16=0 in the environment,
// read once, makes it false.
bool cpu_has_bfloat16();

}  // namespace duet
