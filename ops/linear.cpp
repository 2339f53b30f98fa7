#include "duet/ops/linear.h"

#include "duet/core/dispatch.h"
#include "duet/ops/gemm.h"

namespace duet::ops {

Variable linear(const Variable& x, const Variable& weight, const Variable& bias, Activation activation) {
  check(x.rank() >= 1 && weight.rank() == 2 && x.dim(-1) == weight.dim(1), "linear", "inner sizes differ: x ", x,
        ", weight ", weight);
  check(!bias.defined() || (bias.rank() == 1 && bias.dim(0) == weight.dim(0)), "linear", "bias ", bias, " for weight ",
        weight);
  check(x.dtype() == weight.dtype() && (!bias.defined() || bias.dtype() == x.dtype()), "linear", "dtypes differ: x ", x,
        ", weight ", weight, ", bias ", bias);
  const int64_t in = weight.dim(1), out = weight.dim(0), m = x.shape().product(0, x.rank() - 1);
  Shape shape = x.shape();
  shape.set(-1, out);
  const Tensor xd = x.data(), wd = weight.data();
  const Tensor z = Tensor::empty(shape, x.dtype(), xd.device());
  const bool activated = activation != Activation::none;
  const Tensor y = activated ? empty_like(z) : z;
  dispatch("linear", xd, [&]<class T>(auto context, Type<T>) {
    gemm<T>(context, m, out, in, 1, {xd.data<T>(), in}, {wd.data<T>(), in, true}, 0, {z.data<T>(), out});
    if (bias.defined() || activated)
      bias_activation_forward<T>(context, {z.data<T>(), m, out}, bias.defined() ? bias.data().data<T>() : nullptr,
                                 activation, {y.data<T>(), m, out});
  });
  // Kept: x and weight; with an activation also z, the value before it.
  const Tensor kept_z = activated ? z : Tensor();
  return Variable::from_op(
      "linear", y, {x, weight, bias}, [xd, wd, kept_z, activation, m, in, out](const Tensor& dy, GradientSink& sink) {
        dispatch(dy, [&]<class T>(auto context, Type<T>) {
          Tensor dz = dy;
          if (kept_z.defined()) {
            dz = empty_like(dy);
            activation_backward<T>(context, {kept_z.data<T>(), m, out}, {dy.data<T>(), m, out}, activation,
                                   {dz.data<T>(), m, out});
          }
          if (sink.needs(0)) {
            Tensor dx = empty_like(xd);
            gemm<T>(context, m, in, out, 1, {dz.data<T>(), out}, {wd.data<T>(), in}, 0, {dx.data<T>(), in});
            sink.add(0, std::move(dx));
          }
          if (sink.needs(1)) {
            Tensor dw = empty_like(wd);
            gemm<T>(context, out, in, m, 1, {dz.data<T>(), out, true}, {xd.data<T>(), in}, 0, {dw.data<T>(), in});
            sink.add(1, std::move(dw));
          }
          if (sink.needs(2)) {
            Tensor db = Tensor::empty({out}, dy.dtype(), dy.device());
            bias_backward<T>(context, {dz.data<T>(), m, out}, db.data<T>());
            sink.add(2, std::move(db));
          }
        });
      });
}

}  // namespace duet::ops
