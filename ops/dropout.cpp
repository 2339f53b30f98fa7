#include "duet/ops/dropout.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/core/parallel.h"

namespace duet::ops {

Variable dropout(const Variable& x, double p, RandomKey random) {
  const OpScope scope("dropout");
  // Compared as the float that the kernels use: the nearest float to 0.99999999 is 1.
  check(p >= 0 && static_cast<float>(p) < 1, "dropout", "probability must be in [0, 1), got ", p);
  if (p == 0) return x;
  const auto run = [p, random](const Tensor& in) {
    Tensor out = empty_like(in);
    dispatch("dropout", in, [&]<class T>(auto context, Type<T>) {
      dropout_forward<T>(context, in.data<T>(), out.data<T>(), in.numel(), static_cast<float>(p), random);
    });
    return out;
  };
  return Variable::from_op("dropout", run(x.data()), {x},
                           [run](const Tensor& dy, GradientSink& sink) { sink.add(0, run(dy)); });
}

}  // namespace duet::ops
