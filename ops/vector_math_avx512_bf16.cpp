#ifdef __AVX512BF16__
#define DUET_AVX512_BF16
#include "duet/ops/vector_math_avx512.h"

namespace duet::ops::detail {
const VectorMath<bf16> avx512_bf16_math_bf16 = all_spans<bf16>;
}  // namespace duet::ops::detail
#endif
