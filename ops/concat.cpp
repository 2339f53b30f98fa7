#include "duet/ops/concat.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable concat(const std::vector<Variable>& parts, int axis) {
  const OpScope scope("concat");
  check(!parts.empty(), "concat", "nothing to join");
  const Variable& first = parts[0];
  const int rank = first.rank();
  check(axis >= -rank && axis < rank, "concat", "axis ", axis, " out of range for ", first);
  if (axis < 0) axis += rank;
  Shape shape = first.shape();
  int64_t total = 0;
  for (const Variable& part : parts) {
    bool fits = part.rank() == rank && part.dtype() == first.dtype();
    for (int i = 0; fits && i < rank; ++i) fits = i == axis || part.dim(i) == first.dim(i);
    check_same_device("concat", {first.data(), part.data()});
    check(fits, "concat", "along axis ", axis, ": ", first, " and ", part, " do not fit");
    total += part.dim(axis);
  }
  shape.set(axis, total);
  const Tensor y = Tensor::empty(shape, first.dtype(), first.data().device());
  const int64_t outer = shape.product(0, axis);
  const size_t inner = static_cast<size_t>(shape.product(axis + 1, rank)) * size_of(y.dtype());
  const size_t stride = static_cast<size_t>(total) * inner;
  std::vector<Shape> shapes;
  size_t offset = 0;
  for (const Variable& part : parts) {
    const size_t block = static_cast<size_t>(part.dim(axis)) * inner;
    dispatch_device(y.device(), [&](auto context) {
      copy_blocks(context, part.data().raw(), block, y.raw() + offset, stride, block, outer);
    });
    offset += block;
    shapes.push_back(part.shape());
  }
  return Variable::from_op("concat", y, parts,
                           [shapes, axis, inner, stride, outer](const Tensor& dy, GradientSink& sink) {
                             size_t start = 0;
                             for (size_t i = 0; i < shapes.size(); ++i) {
                               const size_t block = static_cast<size_t>(shapes[i][axis]) * inner;
                               if (sink.needs(i)) {
                                 Tensor dx = Tensor::empty(shapes[i], dy.dtype(), dy.device());
                                 dispatch_device(dy.device(), [&](auto context) {
                                   copy_blocks(context, dy.raw() + start, stride, dx.raw(), block, block, outer);
                                 });
                                 sink.add(i, std::move(dx));
                               }
                               start += block;
                             }
                           });
}

}  // namespace duet::ops
