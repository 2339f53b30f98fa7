#include "duet/ops/slice.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/concat.h"

namespace duet::ops {

Variable slice(const Variable& x, int axis, int64_t begin, int64_t end) {
  const OpScope scope("slice");
  const int rank = x.rank();
  check(axis >= -rank && axis < rank, "slice", "axis ", axis, " out of range for ", x);
  if (axis < 0) axis += rank;
  check(0 <= begin && begin <= end && end <= x.dim(axis), "slice", "[", begin, ", ", end, ") of axis ", axis, " of ",
        x);
  Shape shape = x.shape();
  shape.set(axis, end - begin);
  const Tensor y = Tensor::empty(shape, x.dtype(), x.data().device());
  const int64_t outer = shape.product(0, axis);
  const size_t inner = static_cast<size_t>(shape.product(axis + 1, rank)) * size_of(y.dtype());
  const size_t stride = static_cast<size_t>(x.dim(axis)) * inner, offset = static_cast<size_t>(begin) * inner;
  const size_t block = static_cast<size_t>(end - begin) * inner;
  OpScope::moves(static_cast<int64_t>(2 * y.bytes()));
  dispatch_device(y.device(), [&](auto context) {
    copy_blocks(context, x.data().raw() + offset, stride, y.raw(), block, block, outer);
  });
  return Variable::from_op("slice", y, {x},
                           [whole = x.shape(), outer, stride, offset, block](const Tensor& dy, GradientSink& sink) {
                             Tensor dx = Tensor::zeros(whole, dy.dtype(), dy.device());
                             dispatch_device(dy.device(), [&](auto context) {
                               copy_blocks(context, dy.raw(), block, dx.raw() + offset, stride, block, outer);
                             });
                             sink.add(0, std::move(dx));
                           });
}

}  // namespace duet::ops
