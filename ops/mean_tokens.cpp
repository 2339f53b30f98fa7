#include "duet/ops/mean_tokens.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/matmul.h"
#include "duet/ops/reshape.h"

namespace duet::ops {

Variable mean_tokens(const Variable& x, const Tensor& mask) {
  const OpScope scope("mean_tokens");
  check(x.rank() == 3, "mean_tokens", "x must be (B, T, D), got ", x);
  const int64_t samples = x.dim(0), tokens = x.dim(1);
  check(!mask.defined() || (mask.shape() == Shape{samples, tokens} && mask.dtype() == DType::u8), "mean_tokens",
        "mask ", mask, " does not fit x ", x);
  check_same_device("mean_tokens", {x.data(), mask});
  OpScope::touches(mask);
  // One row of weights per sample, so that a matrix product does the rest.
  const Tensor weights = Tensor::empty({samples, 1, tokens}, x.dtype(), x.data().device());
  dispatch("mean_tokens", weights, [&]<class T>(auto context, Type<T>) {
    token_weights<T>(context, samples, tokens, mask.defined() ? mask.data<uint8_t>() : nullptr, weights.data<T>());
  });
  return reshape(matmul(Variable(weights), x), {samples, x.dim(2)});
}

}  // namespace duet::ops
