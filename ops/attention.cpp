#include "duet/ops/attention.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable attention(const Variable& qkv, const AttentionOptions& options) {
  const OpScope scope("attention");
  check(qkv.rank() == 3 && options.heads > 0 && qkv.dim(2) > 0 && qkv.dim(2) % 3 == 0 &&
            qkv.dim(2) / 3 % options.heads == 0,
        "attention", "qkv ", qkv, " does not split into query, key and value of ", options.heads, " heads");
  // Compared as the float that the kernels use: the nearest float to 0.99999999 is 1.
  const float dropout = static_cast<float>(options.dropout);
  check(dropout >= 0 && dropout < 1, "attention", "dropout must be in [0, 1), got ", options.dropout);
  const int64_t batch = qkv.dim(0), tokens = qkv.dim(1), width = qkv.dim(2) / 3;
  const AttentionShape s{batch, options.heads, tokens, width / options.heads, options.padding_at_end};
  const Tensor mask = options.key_mask;
  check(!mask.defined() || (mask.shape() == Shape{batch, tokens} && mask.dtype() == DType::u8), "attention",
        "key_mask must be ", Shape{batch, tokens}, " uint8, got ", mask);
  check_same_device("attention", {qkv.data(), mask});
  const Tensor x = qkv.data();
  const Shape saved_shape = dispatch_device(x.device(), [&](auto context) { return attention_saved(context, s); });
  const Tensor saved = Tensor::empty(saved_shape, wide(x.dtype()), x.device());
  const Tensor y = Tensor::empty({batch, tokens, width}, x.dtype(), x.device());
  const RandomKey random = options.random;
  // Scores and context; backward has the products of dv, dp, dq and dk.
  const int64_t flops = 4 * batch * tokens * tokens * width;
  OpScope::computes(flops);
  OpScope::touches(mask);
  dispatch("attention", x, [&]<class T>(auto context, Type<T>) {
    attention_forward<T>(context, s, x.data<T>(), mask.defined() ? mask.data<uint8_t>() : nullptr, dropout, random,
                         saved.data<Wide<T>>(), y.data<T>());
  });
  return Variable::from_op(
      "attention", y, {qkv}, [x, mask, saved, y, s, dropout, random, flops](const Tensor& dy, GradientSink& sink) {
        OpScope::computes(2 * flops);
        OpScope::touches(x, mask, y);
        Tensor dx = empty_like(x);
        dispatch(dy, [&]<class T>(auto context, Type<T>) {
          attention_backward<T>(context, s, x.data<T>(), mask.defined() ? mask.data<uint8_t>() : nullptr,
                                saved.data<Wide<T>>(), y.data<T>(), dy.data<T>(), dropout, random, dx.data<T>());
        });
        sink.add(0, std::move(dx));
      });
}

}  // namespace duet::ops
