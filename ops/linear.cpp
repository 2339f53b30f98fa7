#include "duet/ops/linear.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/gemm.h"

namespace duet::ops {

Variable linear(const Variable& x, const Variable& weight, const Variable& bias, Activation activation) {
  const OpScope scope("linear");
  check(x.rank() >= 1 && weight.rank() == 2 && x.dim(-1) == weight.dim(1), "linear", "inner sizes differ: x ", x,
        ", weight ", weight);
  check(!bias.defined() || (bias.rank() == 1 && bias.dim(0) == weight.dim(0)), "linear", "bias ", bias, " for weight ",
        weight);
  check(weight.dtype() == wide(x.dtype()) && (!bias.defined() || bias.dtype() == weight.dtype()), "linear",
        "dtypes do not fit: x ", x, ", weight ", weight, ", bias ", bias);
  check_same_device("linear", {x.data(), weight.data(), bias.defined() ? bias.data() : Tensor()});
  const int64_t in = weight.dim(1), out = weight.dim(0), m = x.shape().product(0, x.rank() - 1);
  Shape shape = x.shape();
  shape.set(-1, out);
  const Tensor xd = x.data(), wd = weight.data().to(x.dtype());
  const Tensor z = Tensor::empty(shape, x.dtype(), xd.device());
  const bool activated = activation != Activation::none;
  const Tensor y = activated ? empty_like(z) : z;
  const int64_t flops = 2 * m * in * out;
  OpScope::computes(flops);
  if (activated) OpScope::touches(z);
  dispatch("linear", xd, [&]<class T>(auto context, Type<T>) {
    linear_forward<T>(context, m, in, out, xd.data<T>(), wd.data<T>(),
                      bias.defined() ? bias.data().data<Wide<T>>() : nullptr, activation, z.data<T>(), y.data<T>());
  });
  // Kept: x and weight, in the dtype of x; with an activation also z, the value before it.
  const Tensor kept_z = activated ? z : Tensor();
  return Variable::from_op(
      "linear", y, {x, weight, bias},
      [xd, wd, kept_z, activation, m, in, out, flops](const Tensor& dy, GradientSink& sink) {
        OpScope::touches(kept_z);
        dispatch(dy, [&]<class T>(auto context, Type<T>) {
          Tensor dz = dy, db;
          if (sink.needs(2)) db = Tensor::empty({out}, wide(dy.dtype()), dy.device());
          Wide<T>* const dbias = db.defined() ? db.data<Wide<T>>() : nullptr;
          if (kept_z.defined()) {
            dz = empty_like(dy);
            activation_backward<T>(context, {kept_z.data<T>(), m, out}, {dy.data<T>(), m, out}, activation,
                                   {dz.data<T>(), m, out}, dbias);
          } else if (dbias != nullptr) {
            bias_backward<T>(context, {dy.data<T>(), m, out}, dbias);
          }
          if (db.defined()) sink.add(2, std::move(db));
          if (sink.needs(0)) {
            OpScope::computes(flops);
            OpScope::touches(wd);
            Tensor dx = empty_like(xd);
            gemm<T>(context, m, in, out, 1, {dz.data<T>(), out}, {wd.data<T>(), in}, 0, {dx.data<T>(), in});
            sink.add(0, std::move(dx));
          }
          if (sink.needs(1)) {
            OpScope::computes(flops);
            OpScope::touches(xd);
            Tensor dw = Tensor::empty(wd.shape(), wide(dy.dtype()), dy.device());
            gemm<T, Wide<T>>(context, out, in, m, 1, {dz.data<T>(), out, true}, {xd.data<T>(), in}, 0,
                             {dw.data<Wide<T>>(), in});
            sink.add(1, std::move(dw));
          }
        });
      });
}

}  // namespace duet::ops
