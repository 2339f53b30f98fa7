#include "duet/ops/cast.h"

#include "duet/core/op_scope.h"

namespace duet::ops {

Variable cast(const Variable& x, DType dtype) {
  const OpScope scope("cast");
  check(is_floating(x.dtype()) && is_floating(dtype), "cast", "from ", x.dtype(), " to ", dtype,
        "; only floating dtypes carry gradients");
  return Variable::from_op("cast", x.data().to(dtype), {x},
                           [before = x.dtype()](const Tensor& dy, GradientSink& sink) { sink.add(0, dy.to(before)); });
}

}  // namespace duet::ops
