#include "duet/core/parallel.h"
#include "duet/ops/mean_tokens.h"

namespace duet::ops {

template <class T>
void token_weights(CpuContext, int64_t batch, int64_t tokens, const uint8_t* mask, T* weights) {
  parallel_for(batch, 64, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const uint8_t* row = mask ? mask + b * tokens : nullptr;
      int64_t real = 0;
      for (int64_t t = 0; row && t < tokens; ++t) real += row[t] != 0;
      const auto share = static_cast<T>(Wide<T>(1) / static_cast<Wide<T>>(real ? real : tokens));
      for (int64_t t = 0; t < tokens; ++t) weights[b * tokens + t] = real == 0 || row[t] != 0 ? share : T(0);
    }
  });
}

template void token_weights<float>(CpuContext, int64_t, int64_t, const uint8_t*, float*);
template void token_weights<double>(CpuContext, int64_t, int64_t, const uint8_t*, double*);
template void token_weights<bf16>(CpuContext, int64_t, int64_t, const uint8_t*, bf16*);

}  // namespace duet::ops
