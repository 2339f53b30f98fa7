#include "duet/ops/attention.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {
namespace {

// Multiply-adds over pairs of tokens count twice: scores and context.
int64_t forward_flops(const AttentionShape& s) {
  int64_t pairs = 0;
  for (int64_t b = 0; b < s.batch; ++b) pairs += (s.row(b + 1) - s.row(b)) * (s.row(b + 1) - s.row(b));
  return 4 * pairs * s.heads * s.head_size;
}

void check_starts(const Variable& qkv, const AttentionOptions& options) {
  const Tensor& starts = options.starts;
  check(qkv.data().device().kind == DeviceKind::cpu, "attention",
        "sequences without padding are for the CPU only, qkv ", qkv, " is on ", qkv.data().device());
  check(!options.key_mask.defined(), "attention", "sequences without padding have no key_mask");
  check(starts.rank() == 1 && starts.dim(0) >= 1 && starts.dtype() == DType::i64, "attention",
        "starts must be (B + 1) int64, got ", starts);
  const auto at = starts.values<int64_t>();
  check(at.front() == 0 && at.back() == qkv.dim(0), "attention", "starts must go from 0 to the rows of qkv ", qkv,
        ", they go from ", at.front(), " to ", at.back());
  for (size_t b = 0; b + 1 < at.size(); ++b)
    check(at[b] <= at[b + 1] && at[b + 1] - at[b] <= options.longest, "attention", "sequence ", b, " has ",
          at[b + 1] - at[b], " tokens, 0 to ", options.longest, " are possible");
}

}  // namespace

Variable attention(const Variable& qkv, const AttentionOptions& options) {
  const OpScope scope("attention");
  const bool unpadded = options.starts.defined();
  check(qkv.rank() == (unpadded ? 2 : 3) && options.heads > 0 && qkv.dim(-1) > 0 && qkv.dim(-1) % 3 == 0 &&
            qkv.dim(-1) / 3 % options.heads == 0,
        "attention", "qkv ", qkv, " does not split into query, key and value of ", options.heads, " heads");
  // Compared as the float that the kernels use: the nearest float to 0.99999999 is 1.
  const float dropout = static_cast<float>(options.dropout);
  check(dropout >= 0 && dropout < 1, "attention", "dropout must be in [0, 1), got ", options.dropout);
  if (unpadded) check_starts(qkv, options);
  const Tensor mask = options.key_mask, starts = options.starts;
  const int64_t batch = unpadded ? starts.dim(0) - 1 : qkv.dim(0), width = qkv.dim(-1) / 3;
  const int64_t tokens = unpadded ? options.longest : qkv.dim(1);
  const AttentionShape s{batch,
                         options.heads,
                         tokens,
                         width / options.heads,
                         options.padding_at_end,
                         unpadded ? starts.data<int64_t>() : nullptr};
  check(!mask.defined() || (mask.shape() == Shape{batch, tokens} && mask.dtype() == DType::u8), "attention",
        "key_mask must be ", Shape{batch, tokens}, " uint8, got ", mask);
  check_same_device("attention", {qkv.data(), mask});
  const Tensor x = qkv.data();
  const Shape saved_shape = dispatch_device(x.device(), [&](auto context) { return attention_saved(context, s); });
  const Tensor saved = Tensor::empty(saved_shape, wide(x.dtype()), x.device());
  Shape shape = x.shape();
  shape.set(-1, width);
  const Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  const RandomKey random = options.random;
  const int64_t flops = forward_flops(s);  // backward has the products of dv, dp, dq and dk
  OpScope::computes(flops);
  OpScope::touches(mask);
  dispatch("attention", x, [&]<class T>(auto context, Type<T>) {
    attention_forward<T>(context, s, x.data<T>(), mask.defined() ? mask.data<uint8_t>() : nullptr, dropout, random,
                         saved.data<Wide<T>>(), y.data<T>());
  });
  return Variable::from_op(
      "attention", y, {qkv},
      [x, mask, starts, saved, y, s, dropout, random, flops](const Tensor& dy, GradientSink& sink) {
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
