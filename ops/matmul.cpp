#include "duet/ops/matmul.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/gemm.h"

namespace duet::ops {
namespace {

// c[i] = op(a[i]) op(b[i]) for every batch entry; the shapes are those stored.
template <class T, class Context>
void batched(Context context, int64_t batch, const Tensor& a, bool ta, const Tensor& b, bool tb, const Tensor& c) {
  gemm_batched<T>(context, batch, c.dim(-2), c.dim(-1), a.dim(ta ? -2 : -1), a.data<T>(), ta, b.data<T>(), tb,
                  c.data<T>());
}

}  // namespace

Variable matmul(const Variable& a, const Variable& b, bool transpose_a, bool transpose_b) {
  const OpScope scope("matmul");
  check(a.rank() >= 2 && a.rank() == b.rank() && a.dtype() == b.dtype(), "matmul", "ranks or dtypes do not match: a ",
        a, ", b ", b);
  check_same_device("matmul", {a.data(), b.data()});
  const int64_t m = a.dim(transpose_a ? -1 : -2), k = a.dim(transpose_a ? -2 : -1);
  const int64_t n = b.dim(transpose_b ? -2 : -1);
  check(b.dim(transpose_b ? -1 : -2) == k, "matmul", "inner sizes differ: a ", a, transpose_a ? " transposed" : "",
        ", b ", b, transpose_b ? " transposed" : "");
  Shape shape;
  for (int i = 0; i < a.rank() - 2; ++i) {
    check(a.dim(i) == b.dim(i), "matmul", "leading dimensions differ: a ", a, ", b ", b);
    shape.append(a.dim(i));
  }
  const int64_t batch = shape.numel();
  shape.append(m);
  shape.append(n);
  const Tensor ad = a.data(), bd = b.data(), y = Tensor::empty(shape, a.dtype(), ad.device());
  const int64_t flops = 2 * batch * m * n * k;
  OpScope::computes(flops);
  dispatch("matmul", ad,
           [&]<class T>(auto context, Type<T>) { batched<T>(context, batch, ad, transpose_a, bd, transpose_b, y); });
  return Variable::from_op("matmul", y, {a, b},
                           [ad, bd, transpose_a, transpose_b, batch, flops](const Tensor& dy, GradientSink& sink) {
                             dispatch(dy, [&]<class T>(auto context, Type<T>) {
                               if (sink.needs(0)) {
                                 OpScope::computes(flops);
                                 OpScope::touches(bd);
                                 Tensor da = empty_like(ad);
                                 if (transpose_a)
                                   batched<T>(context, batch, bd, transpose_b, dy, true, da);
                                 else
                                   batched<T>(context, batch, dy, false, bd, !transpose_b, da);
                                 sink.add(0, std::move(da));
                               }
                               if (sink.needs(1)) {
                                 OpScope::computes(flops);
                                 OpScope::touches(ad);
                                 Tensor db = empty_like(bd);
                                 if (transpose_b)
                                   batched<T>(context, batch, dy, true, ad, transpose_a, db);
                                 else
                                   batched<T>(context, batch, ad, !transpose_a, dy, false, db);
                                 sink.add(1, std::move(db));
                               }
                             });
                           });
}

}  // namespace duet::ops
