#include "duet/ops/l2_normalize.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable l2_normalize(const Variable& x, double eps) {
  const OpScope scope("l2_normalize");
  check(x.rank() >= 1 && x.dim(-1) > 0, "l2_normalize", "last dimension must be non-empty: ", x);
  check(eps > 0, "l2_normalize", "eps must be positive, got ", eps);
  const Tensor y = empty_like(x.data());
  const Tensor inverse = Tensor::empty({rows_of(y)}, wide(y.dtype()), y.device());
  dispatch("l2_normalize", y, [&]<class T>(auto context, Type<T>) {
    l2_normalize_forward<T>(context, rows<const T>(x.data()), static_cast<Wide<T>>(eps), rows<T>(y),
                            inverse.data<Wide<T>>());
  });
  return Variable::from_op("l2_normalize", y, {x}, [y, inverse, eps](const Tensor& dy, GradientSink& sink) {
    Tensor dx = empty_like(dy);
    OpScope::touches(y, inverse);
    dispatch(dy, [&]<class T>(auto context, Type<T>) {
      l2_normalize_backward<T>(context, rows<const T>(y), inverse.data<Wide<T>>(), static_cast<Wide<T>>(eps),
                               rows<const T>(dy), rows<T>(dx));
    });
    sink.add(0, std::move(dx));
  });
}

}  // namespace duet::ops
