#ifdef __AVX512F__
#include "duet/ops/lanes_bfloat16_avx512.h"
#include "duet/ops/packed_sizes_avx512.h"

namespace duet::ops::detail {
namespace {
using Element = bf16;
}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/packed_gemm_kernels.h"

namespace duet::ops::detail {
// Direct: the processors that multiply bfloat16 slowly are Intel's.
const PackedGemm<bf16, bf16> avx512_widened_gemm = kernels<DirectFloat<direct_rows>, bf16>;
const PackedGemm<bf16, float> avx512_widened_gemm_to_float = kernels<DirectFloat<direct_rows>, float>;
}  // namespace duet::ops::detail
#endif
