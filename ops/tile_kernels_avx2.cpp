#ifdef __AVX2__
#include "duet/ops/lanes_avx2.h"

namespace duet::ops::detail {
namespace {
constexpr int most_rows = 4, panel_vectors = 3;
constexpr bool panel_by_panel = true;
}  // namespace
}  // namespace duet::ops::detail

#include "duet/ops/tile_kernels.h"

namespace duet::ops::detail {
const TileKernels avx2_tiles{arrange_floats<float>, product<Float>, nullptr};
}  // namespace duet::ops::detail
#endif
