#include "duet/ops/exp.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable exp(const Variable& x) {
  const OpScope scope("exp");
  const Tensor y = empty_like(x.data());
  dispatch("exp", y, [&]<class T>(auto context, Type<T>) { exp_forward<T>(context, x.data(), y); });
  // Only y is kept: dx = dy * y.
  return Variable::from_op("exp", y, {x}, [y](const Tensor& dy, GradientSink& sink) {
    Tensor dx = empty_like(dy);
    OpScope::touches(y);
    dispatch(dy, [&]<class T>(auto context, Type<T>) { exp_backward<T>(context, y, dy, dx); });
    sink.add(0, std::move(dx));
  });
}

}  // namespace duet::ops
