#include "duet/ops/softmax.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable softmax(const Variable& x) {
  const OpScope scope("softmax");
  check(x.rank() >= 1 && x.dim(-1) > 0, "softmax", "last dimension must be non-empty: ", x);
  const Tensor y = empty_like(x.data());
  dispatch("softmax", y,
           [&]<class T>(auto context, Type<T>) { softmax_forward<T>(context, rows<const T>(x.data()), rows<T>(y)); });
  // Only y is kept: dx = y * (dy - sum(y * dy)).
  return Variable::from_op("softmax", y, {x}, [y](const Tensor& dy, GradientSink& sink) {
    Tensor dx = empty_like(dy);
    OpScope::touches(y);
    dispatch(dy, [&]<class T>(auto context, Type<T>) {
      softmax_backward<T>(context, rows<const T>(y), rows<const T>(dy), rows<T>(dx));
    });
    sink.add(0, std::move(dx));
  });
}

}  // namespace duet::ops
