#include "duet/ops/layer_norm.h"

#include "duet/core/dispatch.h"

namespace duet::ops {
namespace {

void check_norm(const char* op, const Variable& x, const Variable& weight, const Variable& bias) {
  check(x.rank() >= 1 && x.dim(-1) > 0, op, "last dimension must be non-empty: ", x);
  const Shape width{x.dim(-1)};
  check(weight.shape() == width && bias.shape() == width, op, "weight ", weight, " and bias ", bias, " for x ", x);
  check(weight.dtype() == x.dtype() && bias.dtype() == x.dtype(), op, "dtypes differ: x ", x, ", weight ", weight,
        ", bias ", bias);
}

// What the backward pass keeps: the normalised input and two numbers per row.
struct Saved {
  Tensor x, mean, rstd, weight;
};

Saved forward(const char* op, const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
              double eps, const Tensor& y) {
  const int64_t count = rows_of(x);
  Saved saved{residual.defined() ? empty_like(x) : x, Tensor::empty({count}, x.dtype(), x.device()),
              Tensor::empty({count}, x.dtype(), x.device()), weight};
  dispatch(op, x, [&]<class T>(auto context, Type<T>) {
    layer_norm_forward<T>(context, rows<const T>(x), residual.defined() ? residual.data<T>() : nullptr,
                          saved.x.data<T>(), weight.data<T>(), bias.data<T>(), static_cast<T>(eps), rows<T>(y),
                          saved.mean.data<T>(), saved.rstd.data<T>());
  });
  return saved;
}

void parameter_gradients(const Saved& saved, const Tensor& dy, size_t first, GradientSink& sink) {
  if (!sink.needs(first) && !sink.needs(first + 1)) return;
  Tensor dw = empty_like(saved.weight), db = empty_like(saved.weight);
  dispatch(dy, [&]<class T>(auto context, Type<T>) {
    layer_norm_parameter_backward<T>(context, rows<const T>(saved.x), saved.mean.data<T>(), saved.rstd.data<T>(),
                                     rows<const T>(dy), dw.data<T>(), db.data<T>());
  });
  sink.add(first, std::move(dw));
  sink.add(first + 1, std::move(db));
}

Tensor input_gradient(const Saved& saved, const Tensor& dy, const Tensor& extra) {
  Tensor dx = empty_like(saved.x);
  dispatch(dy, [&]<class T>(auto context, Type<T>) {
    layer_norm_backward<T>(context, rows<const T>(saved.x), saved.mean.data<T>(), saved.rstd.data<T>(),
                           saved.weight.data<T>(), rows<const T>(dy), extra.defined() ? extra.data<T>() : nullptr,
                           rows<T>(dx));
  });
  return dx;
}

}  // namespace

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps) {
  check_norm("layer_norm", x, weight, bias);
  const Tensor y = empty_like(x.data());
  const Saved saved = forward("layer_norm", x.data(), {}, weight.data(), bias.data(), eps, y);
  return Variable::from_op("layer_norm", y, {x, weight, bias}, [saved](const Tensor& dy, GradientSink& sink) {
    parameter_gradients(saved, dy, 1, sink);
    if (sink.needs(0)) sink.add(0, input_gradient(saved, dy, {}));
  });
}

AddLayerNorm add_layer_norm(const Variable& x, const Variable& residual, const Variable& weight, const Variable& bias,
                            double eps) {
  check_norm("add_layer_norm", x, weight, bias);
  check(residual.shape() == x.shape() && residual.dtype() == x.dtype(), "add_layer_norm", "residual ", residual,
        " for x ", x);
  const Tensor y = empty_like(x.data());
  const Saved saved = forward("add_layer_norm", x.data(), residual.data(), weight.data(), bias.data(), eps, y);
  auto results = Variable::from_op("add_layer_norm", {saved.x, y}, {x, residual, weight, bias},
                                   [saved](const std::vector<Tensor>& dys, GradientSink& sink) {
                                     if (!dys[1].defined()) {
                                       sink.add(0, dys[0]);
                                       sink.add(1, dys[0]);
                                       return;
                                     }
                                     parameter_gradients(saved, dys[1], 2, sink);
                                     if (!sink.needs(0) && !sink.needs(1)) return;
                                     const Tensor dx = input_gradient(saved, dys[1], dys[0]);
                                     sink.add(0, dx);
                                     sink.add(1, dx);
                                   });
  return {results[0], results[1]};
}

}  // namespace duet::ops
