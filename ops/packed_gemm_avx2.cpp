#ifdef __AVX2__
#include "duet/ops/lanes_avx2.h"

namespace duet::ops::detail {
namespace {
using Element = float;
constexpr int tile_rows = 4, tile_vectors = 3;
constexpr int panels_together = 8, straight_panels = 2, turned_panels = 4;
constexpr int64_t most_terms = 440, piece_terms = 400;
constexpr int64_t right_bytes = 100 << 10;  // of 512 KiB, most of which the left operand needs
}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/packed_gemm_kernels.h"

namespace duet::ops::detail {
const PackedGemm<float, float> avx2_packed_gemm = kernels<Float, float>;
}  // namespace duet::ops::detail
#endif
