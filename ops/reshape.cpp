#include "duet/ops/reshape.h"

#include "duet/core/op_scope.h"

namespace duet::ops {

Variable reshape(const Variable& x, const Shape& shape) {
  const OpScope scope("reshape");
  return Variable::from_op(
      "reshape", x.data().reshape(shape), {x},
      [before = x.shape()](const Tensor& dy, GradientSink& sink) { sink.add(0, dy.reshape(before)); });
}

}  // namespace duet::ops
