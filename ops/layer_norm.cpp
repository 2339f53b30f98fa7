#include "duet/ops/layer_norm.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {
namespace {

void check_norm(const char* op, const Variable& x, const Variable& weight, const Variable& bias) {
  check(x.rank() >= 1 && x.dim(-1) > 0, op, "last dimension must be non-empty: ", x);
  const Shape width{x.dim(-1)};
  check(weight.shape() == width && bias.shape() == width, op, "weight ", weight, " and bias ", bias, " for x ", x);
  check_same_device(op, {x.data(), weight.data(), bias.data()});
  check(weight.dtype() == wide(x.dtype()) && bias.dtype() == wide(x.dtype()), op, "dtypes do not fit: x ", x,
        ", weight ", weight, ", bias ", bias);
}

// What the backward pass keeps: the normalised input and two numbers per row.
struct Saved {
  Tensor x, mean, rstd, weight;
};

Saved forward(const char* op, const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
              double eps, const Tensor& y) {
  const int64_t count = rows_of(x);
  Saved saved{residual.defined() ? empty_like(x) : x, Tensor::empty({count}, wide(x.dtype()), x.device()),
              Tensor::empty({count}, wide(x.dtype()), x.device()), weight};
  OpScope::touches(saved.mean, saved.rstd);
  dispatch(op, x, [&]<class T>(auto context, Type<T>) {
    layer_norm_forward<T>(context, rows<const T>(x), residual.defined() ? residual.data<T>() : nullptr,
                          saved.x.data<T>(), weight.data<Wide<T>>(), bias.data<Wide<T>>(), static_cast<Wide<T>>(eps),
                          rows<T>(y), saved.mean.data<Wide<T>>(), saved.rstd.data<Wide<T>>());
  });
  return saved;
}

// Adds the gradients of weight (input `first`) and bias (the next) to the sink, and returns that of what was normalised
// plus `extra`, unless `input` is false.
Tensor gradients(const Saved& saved, const Tensor& dy, const Tensor& extra, bool input, size_t first,
                 GradientSink& sink) {
  OpScope::touches(saved.x, saved.mean, saved.rstd, saved.weight);
  Tensor dx, dw, db;
  if (sink.needs(first) || sink.needs(first + 1)) {
    dw = empty_like(saved.weight);
    db = empty_like(saved.weight);
  }
  if (input) dx = empty_like(saved.x);
  dispatch(dy, [&]<class T>(auto context, Type<T>) {
    Wide<T>* const dweight = dw.defined() ? dw.data<Wide<T>>() : nullptr;
    Wide<T>* const dbias = db.defined() ? db.data<Wide<T>>() : nullptr;
    if (input)
      layer_norm_backward<T>(context, rows<const T>(saved.x), saved.mean.data<Wide<T>>(), saved.rstd.data<Wide<T>>(),
                             saved.weight.data<Wide<T>>(), rows<const T>(dy),
                             extra.defined() ? extra.data<T>() : nullptr, rows<T>(dx), dweight, dbias);
    else if (dweight != nullptr)
      layer_norm_parameter_backward<T>(context, rows<const T>(saved.x), saved.mean.data<Wide<T>>(),
                                       saved.rstd.data<Wide<T>>(), rows<const T>(dy), dweight, dbias);
  });
  if (dw.defined()) {
    sink.add(first, std::move(dw));
    sink.add(first + 1, std::move(db));
  }
  return dx;
}

}  // namespace

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps) {
  const OpScope scope("layer_norm");
  check_norm("layer_norm", x, weight, bias);
  const Tensor y = empty_like(x.data());
  const Saved saved = forward("layer_norm", x.data(), {}, weight.data(), bias.data(), eps, y);
  return Variable::from_op("layer_norm", y, {x, weight, bias}, [saved](const Tensor& dy, GradientSink& sink) {
    const Tensor others = sink.take(0);
    OpScope::touches(others);
    Tensor dx = gradients(saved, dy, others, sink.needs(0), 1, sink);
    if (dx.defined()) sink.add(0, std::move(dx));
  });
}

AddLayerNorm add_layer_norm(const Variable& x, const Variable& residual, const Variable& weight, const Variable& bias,
                            double eps) {
  const OpScope scope("add_layer_norm");
  check_norm("add_layer_norm", x, weight, bias);
  check(residual.shape() == x.shape() && residual.dtype() == x.dtype(), "add_layer_norm", "residual ", residual,
        " for x ", x);
  check_same_device("add_layer_norm", {x.data(), residual.data()});
  const Tensor y = empty_like(x.data());
  const Saved saved = forward("add_layer_norm", x.data(), residual.data(), weight.data(), bias.data(), eps, y);
  auto results = Variable::from_op("add_layer_norm", {saved.x, y}, {x, residual, weight, bias},
                                   [saved](const std::vector<Tensor>& dys, GradientSink& sink) {
                                     if (!dys[1].defined()) {
                                       sink.add(0, dys[0]);
                                       sink.add(1, dys[0]);
                                       return;
                                     }
                                     const bool input = sink.needs(0) || sink.needs(1);
                                     const Tensor dx = gradients(saved, dys[1], dys[0], input, 2, sink);
                                     if (!input) return;
                                     sink.add(0, dx);
                                     sink.add(1, dx);
                                   });
  return {results[0], results[1]};
}

}  // namespace duet::ops
