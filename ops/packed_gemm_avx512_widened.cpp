#ifdef __AVX512F__
#include "duet/ops/lanes_bfloat16_avx512.h"

namespace duet::ops::detail {
namespace {
using Element = bf16;
constexpr int tile_rows = 14, tile_vectors = 2;
constexpr int panels_together = 1, straight_panels = 1, turned_panels = 4;
constexpr int64_t most_terms = 1024, piece_terms = 832;
constexpr int64_t right_bytes = 420 << 10;  // of 1 MiB
}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/packed_gemm_kernels.h"

namespace duet::ops::detail {
const PackedGemm<bf16, bf16> avx512_widened_gemm = kernels<bf16>;
const PackedGemm<bf16, float> avx512_widened_gemm_to_float = kernels<float>;
}  // namespace duet::ops::detail
#endif
