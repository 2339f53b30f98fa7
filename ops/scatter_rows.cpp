#include "duet/ops/scatter_rows.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/embedding.h"

namespace duet::ops {

Variable scatter_rows(const Variable& x, const Tensor& indices, int64_t count) {
  const OpScope scope("scatter_rows");
  check(x.rank() == 2 && indices.shape() == Shape{x.dim(0)}, "scatter_rows", "x must be (N, D) and indices (N), got ",
        x, " and ", indices);
  check_same_device("scatter_rows", {x.data(), indices});
  constexpr int64_t no_padding = -1;
  const Tensor y = Tensor::zeros({count, x.dim(1)}, x.dtype(), x.data().device());
  OpScope::touches(indices);
  dispatch_index(indices, "scatter_rows", [&](const auto* index) {
    for (int64_t i = 0; i < (indices.device().kind == DeviceKind::cpu ? indices.numel() : 0); ++i)
      check(index[i] >= 0 && index[i] < count, "scatter_rows", "index ", index[i], " at position ", i, " is outside ",
            count, " rows");
    dispatch("scatter_rows", y, [&]<class T>(auto context, Type<T>) {
      embedding_backward<T>(context, index, indices.numel(), no_padding, x.data().data<T>(), rows<T>(y));
    });
  });
  return Variable::from_op("scatter_rows", y, {x}, [indices, shape = x.shape()](const Tensor& dy, GradientSink& sink) {
    Tensor dx = Tensor::empty(shape, dy.dtype(), dy.device());
    OpScope::moves(static_cast<int64_t>(indices.bytes() + 2 * dx.bytes()));  // only the rows that are named
    dispatch_index(indices, "scatter_rows", [&](const auto* index) {
      dispatch(dy, [&]<class T>(auto context, Type<T>) {
        embedding_forward<T>(context, index, indices.numel(), rows<const T>(dy), dx.data<T>());
      });
    });
    sink.add(0, std::move(dx));
  });
}

}  // namespace duet::ops
