#include "duet/ops/embedding.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable embedding(const Tensor& ids, const Variable& weight, int64_t padding_idx) {
  const OpScope scope("embedding");
  check(weight.rank() == 2, "embedding", "weight must be (V, D), got ", weight);
  const int64_t vocabulary = weight.dim(0), width = weight.dim(1), count = ids.numel();
  Shape shape = ids.shape();
  shape.append(width);
  check_same_device("embedding", {weight.data(), ids});
  const Tensor wd = weight.data(), y = Tensor::empty(shape, wd.dtype(), wd.device());
  OpScope::moves(static_cast<int64_t>(ids.bytes() + 2 * y.bytes()));  // only the rows that are looked up
  dispatch_index(ids, "embedding", [&](const auto* id) {
    // On the GPU the kernel checks the ids, and the error appears with the next result that is read.
    for (int64_t i = 0; i < (ids.device().kind == DeviceKind::cpu ? count : 0); ++i)
      check(id[i] >= 0 && id[i] < vocabulary, "embedding", "id ", id[i], " at position ", i,
            " is outside the vocabulary of ", vocabulary);
    dispatch("embedding", wd, [&]<class T>(auto context, Type<T>) {
      embedding_forward<T>(context, id, count, rows<const T>(wd), y.data<T>());
    });
  });
  return Variable::from_op("embedding", y, {weight}, [ids, wd, padding_idx](const Tensor& dy, GradientSink& sink) {
    Tensor dw = zeros_like(wd);
    OpScope::touches(ids);
    dispatch_index(ids, "embedding", [&](const auto* id) {
      dispatch(dy, [&]<class T>(auto context, Type<T>) {
        embedding_backward<T>(context, id, ids.numel(), padding_idx, dy.data<T>(), rows<T>(dw));
      });
    });
    sink.add(0, std::move(dw));
  });
}

}  // namespace duet::ops
