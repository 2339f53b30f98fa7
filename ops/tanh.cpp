#include "duet/ops/tanh.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable tanh(const Variable& x) {
  const OpScope scope("tanh");
  const Tensor y = empty_like(x.data());
  dispatch("tanh", y, [&]<class T>(auto context, Type<T>) { tanh_forward<T>(context, x.data(), y); });
  // Only y is kept: dx = dy * (1 - y^2).
  return Variable::from_op("tanh", y, {x}, [y](const Tensor& dy, GradientSink& sink) {
    Tensor dx = empty_like(dy);
    OpScope::touches(y);
    dispatch(dy, [&]<class T>(auto context, Type<T>) { tanh_backward<T>(context, y, dy, dx); });
    sink.add(0, std::move(dx));
  });
}

}  // namespace duet::ops
