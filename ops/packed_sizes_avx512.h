// How products are cut for AVX-512; see packed_gemm_kernels.h.
#pragma once

#include <cstdint>

namespace duet::ops::detail {
namespace {

constexpr int tile_rows = 14, tile_vectors = 2;
// 34 instructions and 26 reads for the 28 multiply-adds of a term, instead of 44 and 16. A cycle has two multiply-adds
// and two reads, but only half of its six instructions while another program shares the core.
constexpr int direct_rows = 10;
constexpr int panels_together = 1, straight_panels = 1, turned_panels = 4;
constexpr int64_t most_terms = 1024, piece_terms = 832;
constexpr int64_t right_bytes = 420 << 10;  // of 1 MiB

}  // namespace
}  // namespace duet::ops::detail
