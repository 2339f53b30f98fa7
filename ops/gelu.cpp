#include "duet/ops/gelu.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable gelu(const Variable& x, bool tanh_approximation) {
  const OpScope scope("gelu");
  const Tensor xd = x.data(), y = empty_like(xd);
  dispatch("gelu", xd, [&]<class T>(auto context, Type<T>) { gelu_forward<T>(context, tanh_approximation, xd, y); });
  return Variable::from_op("gelu", y, {x}, [xd, tanh_approximation](const Tensor& dy, GradientSink& sink) {
    Tensor dx = empty_like(dy);
    OpScope::touches(xd);
    dispatch(dy, [&]<class T>(auto context, Type<T>) { gelu_backward<T>(context, tanh_approximation, xd, dy, dx); });
    sink.add(0, std::move(dx));
  });
}

}  // namespace duet::ops
