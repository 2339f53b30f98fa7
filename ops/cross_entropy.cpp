#include "duet/ops/cross_entropy.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {

Variable cross_entropy(const Variable& logits, const Tensor& labels, const CrossEntropyOptions& options) {
  const OpScope scope("cross_entropy");
  check(logits.rank() == 2 && labels.shape() == Shape{logits.dim(0)}, "cross_entropy",
        "logits must be (N, K) and labels (N), got ", logits, " and ", labels);
  check(labels.dtype() == DType::i32 || labels.dtype() == DType::i64, "cross_entropy",
        "labels must be int32 or int64, got ", labels);
  check(options.label_smoothing >= 0 && options.label_smoothing <= 1, "cross_entropy",
        "label smoothing must be in [0, 1], got ", options.label_smoothing);
  const Tensor& weights = options.class_weights;
  check(!weights.defined() || (weights.shape() == Shape{logits.dim(1)} && weights.dtype() == wide(logits.dtype())),
        "cross_entropy", "class weights ", weights, " for logits ", logits);
  check_same_device("cross_entropy", {logits.data(), labels, weights});
  const Tensor targets = labels.to(DType::i64);
  // On the GPU the kernel checks the labels, and the error appears with the next result that is read.
  const int64_t checked = labels.device().kind == DeviceKind::cpu ? targets.numel() : 0;
  for (int64_t i = 0; i < checked; ++i) {
    const int64_t y = targets.data<int64_t>()[i];
    check(y == options.ignore_index || (y >= 0 && y < logits.dim(1)), "cross_entropy", "label ", y, " of row ", i,
          " is outside the ", logits.dim(1), " classes");
  }
  const Tensor loss = Tensor::empty({}, wide(logits.dtype()), logits.data().device());
  // The gradient is made together with the loss, because both need the same exponentials.
  const Tensor dlogits = empty_like(logits.data());
  OpScope::touches(targets, weights, dlogits);
  dispatch("cross_entropy", dlogits, [&]<class T>(auto context, Type<T>) {
    cross_entropy_kernel<T>(context, rows<const T>(logits.data()), targets.data<int64_t>(),
                            weights.defined() ? weights.data<Wide<T>>() : nullptr, options.label_smoothing,
                            options.ignore_index, rows<T>(dlogits), loss.data<Wide<T>>());
  });
  return Variable::from_op("cross_entropy", loss, {logits}, [dlogits](const Tensor& dy, GradientSink& sink) {
    OpScope::touches(dlogits);
    Tensor dx = empty_like(dlogits);
    dispatch(dlogits, [&]<class T>(auto context, Type<T>) {
      scale_by_element<T>(context, dlogits.data<T>(), dy.data<Wide<T>>(), dx.data<T>(), dlogits.numel());
    });
    sink.add(0, std::move(dx));
  });
}

}  // namespace duet::ops
