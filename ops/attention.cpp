#include "duet/ops/attention.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/embedding.h"
#include "duet/ops/linear_layer.h"

namespace duet::ops {
namespace {

// Multiply-adds over pairs of tokens count twice: scores and context.
int64_t forward_flops(const AttentionShape& s) {
  int64_t pairs = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t tokens = s.row(b + 1) - s.row(b);
    pairs += s.first_query ? tokens : tokens * tokens;
  }
  return 4 * pairs * s.heads * s.head_size;
}

void check_starts(const char* op, const Tensor& x, const AttentionOptions& options, bool first_query) {
  const int64_t fewest = first_query ? 1 : 0;
  const Tensor& starts = options.starts;
  check(x.device().kind == DeviceKind::cpu, op, "sequences without padding are for the CPU only, ", x, " is on ",
        x.device());
  check(!options.key_mask.defined(), op, "sequences without padding have no key_mask");
  check(starts.rank() == 1 && starts.dim(0) >= 1 && starts.dtype() == DType::i64, op,
        "starts must be (B + 1) int64, got ", starts);
  const auto at = starts.values<int64_t>();
  check(at.front() == 0 && (at.back() == x.dim(0) || (first_query && at.back() < x.dim(0))), op,
        "starts must go from 0 to ", first_query ? "at most " : "", "the rows of ", x, ", they go from ", at.front(),
        " to ", at.back());
  for (size_t b = 0; b + 1 < at.size(); ++b)
    check(at[b + 1] - at[b] >= fewest && at[b + 1] - at[b] <= options.longest, op, "sequence ", b, " has ",
          at[b + 1] - at[b], " tokens, ", fewest, " to ", options.longest, " are possible");
}

// The shape of attention for x, (B, T, ...) or (N, ...) with starts, to heads of `width` elements together.
AttentionShape checked_shape(const char* op, const Tensor& x, int64_t width, const AttentionOptions& options,
                             bool first_query) {
  const bool unpadded = options.starts.defined();
  if (unpadded) check_starts(op, x, options, first_query);
  const int64_t batch = unpadded ? options.starts.dim(0) - 1 : x.dim(0);
  const int64_t tokens = unpadded ? options.longest : x.dim(1);
  const Tensor& mask = options.key_mask;
  check(!mask.defined() || (mask.shape() == Shape{batch, tokens} && mask.dtype() == DType::u8), op, "key_mask must be ",
        Shape{batch, tokens}, " uint8, got ", mask);
  check_same_device(op, {x, mask});
  return {batch,
          options.heads,
          tokens,
          width / options.heads,
          options.padding_at_end,
          unpadded ? options.starts.data<int64_t>() : nullptr,
          first_query};
}

// Compared as the float that the kernels use: the nearest float to 0.99999999 is 1.
float checked_dropout(const char* op, const AttentionOptions& options) {
  const float dropout = static_cast<float>(options.dropout);
  check(dropout >= 0 && dropout < 1, op, "dropout must be in [0, 1), got ", options.dropout);
  return dropout;
}

const uint8_t* data_of(const Tensor& mask) {
  return mask.defined() ? mask.data<uint8_t>() : nullptr;
}

// dispatch for what is on the CPU alone.
template <class F>
void on_cpu(const char* op, const Tensor& x, F&& f) {
  dispatch(op, x, [&]<class T>(auto context, Type<T> type) {
    if constexpr (std::is_same_v<decltype(context), CpuContext>) f(type);
  });
}

}  // namespace

Variable attention(const Variable& qkv, const AttentionOptions& options) {
  const OpScope scope("attention");
  const bool unpadded = options.starts.defined();
  check(qkv.rank() == (unpadded ? 2 : 3) && options.heads > 0 && qkv.dim(-1) > 0 && qkv.dim(-1) % 3 == 0 &&
            qkv.dim(-1) / 3 % options.heads == 0,
        "attention", "qkv ", qkv, " does not split into query, key and value of ", options.heads, " heads");
  const float dropout = checked_dropout("attention", options);
  const Tensor x = qkv.data(), mask = options.key_mask, starts = options.starts;
  const int64_t width = qkv.dim(-1) / 3;
  const AttentionShape s = checked_shape("attention", x, width, options, false);
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
    attention_forward<T>(context, s, x.data<T>(), data_of(mask), dropout, random, saved.data<Wide<T>>(), y.data<T>());
  });
  return Variable::from_op(
      "attention", y, {qkv},
      [x, mask, starts, saved, y, s, dropout, random, flops](const Tensor& dy, GradientSink& sink) {
        OpScope::computes(2 * flops);
        OpScope::touches(x, mask, y);
        Tensor dx = empty_like(x);
        dispatch(dy, [&]<class T>(auto context, Type<T>) {
          attention_backward<T>(context, s, x.data<T>(), data_of(mask), saved.data<Wide<T>>(), y.data<T>(),
                                dy.data<T>(), dropout, random, dx.data<T>());
        });
        sink.add(0, std::move(dx));
      });
}

Variable class_attention(const Variable& x, const Variable& weight, const Variable& bias,
                         const AttentionOptions& options) {
  const char* const op = "class_attention";
  const OpScope scope(op);
  const bool unpadded = options.starts.defined();
  check(x.rank() == (unpadded ? 2 : 3) && weight.rank() == 2 && options.heads > 0 && weight.dim(0) > 0 &&
            weight.dim(0) % 3 == 0 && weight.dim(0) / 3 % options.heads == 0,
        op, "weight ", weight, " of ", x, " does not split into query, key and value of ", options.heads, " heads");
  check(!bias.defined() || (bias.rank() == 1 && bias.dim(0) == weight.dim(0)), op, "bias ", bias, " for weight ",
        weight);
  check(x.data().device().kind == DeviceKind::cpu, op, "is for the CPU only, ", x, " is on ", x.data().device());
  check(unpadded || x.dim(1) > 0, op, x, " has no first tokens");
  const float dropout = checked_dropout(op, options);
  const int64_t width = weight.dim(0) / 3;
  const AttentionShape s = checked_shape(op, x.data(), width, options, true);
  const Tensor mask = options.key_mask, starts = options.starts, xd = x.data();

  const auto part = [](const Variable& v, int64_t begin, int64_t end) {
    return v.defined() ? Variable(v.data().rows_view(begin, end)) : Variable();
  };
  const Tensor first_rows = Tensor::empty({s.batch}, DType::i64);
  for (int64_t b = 0; b < s.batch; ++b) first_rows.data<int64_t>()[b] = s.row(b);
  const Tensor x0 = Tensor::empty({s.batch, xd.dim(-1)}, x.dtype());
  on_cpu(op, xd, [&]<class T>(Type<T>) {
    embedding_forward<T>(CpuContext{}, first_rows.data<int64_t>(), s.batch, rows<const T>(xd), x0.data<T>());
  });
  const LinearLayer of_first(op, x0, x0.shape(), part(weight, 0, width), part(bias, 0, width));
  const LinearLayer of_all(op, xd, xd.shape(), part(weight, width, 3 * width), part(bias, width, 3 * width));
  const Tensor q = Tensor::empty(of_first.output(), x.dtype()), kv = Tensor::empty(of_all.output(), x.dtype());
  of_first.forward(x0, Activation::none, q, {});
  of_all.forward(xd, Activation::none, kv, {});
  const Tensor saved = Tensor::empty(attention_saved(CpuContext{}, s), wide(x.dtype()));
  const Tensor y = Tensor::empty({s.batch, width}, x.dtype());
  const RandomKey random = options.random;
  const int64_t flops = forward_flops(s);
  OpScope::computes(flops);
  OpScope::touches(q, kv, mask);
  on_cpu(op, xd, [&]<class T>(Type<T>) {
    class_attention_forward<T>(CpuContext{}, s, q.data<T>(), kv.data<T>(), data_of(mask), dropout, random,
                               saved.data<Wide<T>>(), y.data<T>());
  });
  return Variable::from_op(
      op, y, {x, weight, bias},
      [op, xd, x0, first_rows, of_first, of_all, q, kv, mask, starts, saved, y, s, width, dropout, random, flops](
          const Tensor& dy, GradientSink& sink) {
        OpScope::computes(2 * flops);
        const Tensor dq = empty_like(q), dkv = empty_like(kv);
        OpScope::touches(q, kv, mask, y, dq, dkv);
        on_cpu(op, xd, [&]<class T>(Type<T>) {
          class_attention_backward<T>(CpuContext{}, s, q.data<T>(), kv.data<T>(), data_of(mask), saved.data<Wide<T>>(),
                                      y.data<T>(), dy.data<T>(), dropout, random, dq.data<T>(), dkv.data<T>());
          const int64_t used = s.row(s.batch) * 2 * width;
          std::fill(dkv.data<T>() + used, dkv.data<T>() + dkv.numel(), T{});
        });
        if (sink.needs(0)) {
          Tensor dx = of_all.input_gradient(dkv, sink.take(0));
          const Tensor dx0 = of_first.input_gradient(dq);
          on_cpu(op, xd, [&]<class T>(Type<T>) {
            embedding_backward<T>(CpuContext{}, first_rows.data<int64_t>(), s.batch, -1, dx0.data<T>(), rows<T>(dx));
          });
          sink.add(0, std::move(dx));
        }
        Tensor dw, db;
        if (sink.needs(2)) db = Tensor::empty({3 * width}, wide(xd.dtype()));
        const auto rows_of = [](const Tensor& t, int64_t begin, int64_t end) {
          return t.defined() ? t.rows_view(begin, end) : Tensor();
        };
        if (sink.needs(1)) {
          OpScope::touches(xd);
          dw = LinearLayer::empty_weight_gradient({3 * width, xd.dim(-1)}, xd);
          of_first.weight_gradient(dq, x0, db.defined(), {rows_of(dw, 0, width), rows_of(db, 0, width)});
          of_all.weight_gradient(dkv, xd, db.defined(), {rows_of(dw, width, 3 * width), rows_of(db, width, 3 * width)});
          sink.add(1, std::move(dw));
        } else if (db.defined()) {
          of_first.bias_gradient(dq, rows_of(db, 0, width));
          of_all.bias_gradient(dkv, rows_of(db, width, 3 * width));
        }
        if (db.defined()) sink.add(2, std::move(db));
      });
}

}  // namespace duet::ops
