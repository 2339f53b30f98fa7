#ifdef __AVX512F__
#include "duet/ops/lanes_bfloat16_avx512.h"

namespace duet::ops::detail {
namespace {
constexpr int most_rows = 12, panel_vectors = 2;
constexpr int direct_rows = 6;  // fewer than in packed products: tiles are shorter, and more rows gained nothing
constexpr bool panel_by_panel = false;
}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/tile_kernels.h"

namespace duet::ops::detail {
const TileKernels avx512_tiles{arrange_floats<float>, product<Float>, nullptr};
const TileKernels avx512_direct_tiles{arrange_floats<float>, product<DirectFloat<direct_rows>>, nullptr};
// For processors that multiply bfloat16 slowly: as in float, Intel's.
const TileKernels avx512_widened_tiles{arrange_floats<bf16>, product<DirectFloat<direct_rows>>, nullptr};
}  // namespace duet::ops::detail
#endif
