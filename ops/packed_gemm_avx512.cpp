#ifdef __AVX512F__
#include "duet/ops/lanes_avx512.h"
#include "duet/ops/packed_sizes_avx512.h"

namespace duet::ops::detail {
namespace {
using Element = float;
}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/packed_gemm_kernels.h"

namespace duet::ops::detail {
const PackedGemm<float, float> avx512_packed_gemm = kernels<Float, float>;
const PackedGemm<float, float> avx512_direct_gemm = kernels<DirectFloat<direct_rows>, float>;
}  // namespace duet::ops::detail
#endif
