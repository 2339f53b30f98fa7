#include "duet/ops/reduce.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {
namespace {

// Folds x into `count` rows and sums each.
Variable reduce_rows(const char* op, const Variable& x, const Shape& result, bool average) {
  const OpScope scope(op);
  const int64_t count = result.numel(), width = count ? x.data().numel() / count : 0;
  check(!average || width > 0 || count == 0, op, "mean of no elements: ", x);
  const double factor = average && width > 0 ? 1.0 / static_cast<double>(width) : 1.0;
  const Tensor y = Tensor::empty(result, x.dtype(), x.data().device());
  dispatch(op, x.data(), [&]<class T>(auto context, Type<T>) {
    sum_rows_forward<T>(context, {x.data().data<T>(), count, width}, factor, y.data<T>());
  });
  return Variable::from_op(op, y, {x}, [shape = x.shape(), count, width, factor](const Tensor& dy, GradientSink& sink) {
    Tensor dx = Tensor::empty(shape, dy.dtype(), dy.device());
    dispatch(dy, [&]<class T>(auto context, Type<T>) {
      sum_rows_backward<T>(context, dy.data<T>(), factor, {dx.data<T>(), count, width});
    });
    sink.add(0, std::move(dx));
  });
}

Shape without_last(const char* op, const Variable& x) {
  check(x.rank() >= 1, op, "needs at least one dimension: ", x);
  Shape shape;
  for (int i = 0; i + 1 < x.rank(); ++i) shape.append(x.dim(i));
  return shape;
}

}  // namespace

Variable sum(const Variable& x) {
  return reduce_rows("sum", x, {}, false);
}
Variable mean(const Variable& x) {
  return reduce_rows("mean", x, {}, true);
}
Variable sum_last(const Variable& x) {
  return reduce_rows("sum_last", x, without_last("sum_last", x), false);
}
Variable mean_last(const Variable& x) {
  return reduce_rows("mean_last", x, without_last("mean_last", x), true);
}

}  // namespace duet::ops
