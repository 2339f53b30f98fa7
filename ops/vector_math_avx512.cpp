#ifdef __AVX512F__
#include "duet/ops/vector_math_avx512.h"
// Behind it, since it uses it.
#include "duet/ops/attention_rows_kernels.h"

namespace duet::ops::detail {
const VectorMath<float> avx512_math = all_spans<float>;
const AttentionRows<float> avx512_attention_rows{softmax_rows, softmax_backward_rows};
const VectorMath<bf16> avx512_math_bf16 = all_spans<bf16>;
}  // namespace duet::ops::detail
#endif
