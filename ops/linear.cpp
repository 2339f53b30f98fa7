#include "duet/ops/linear.h"

#include "duet/core/op_scope.h"
#include "duet/ops/linear_layer.h"

namespace duet::ops {

Variable linear(const Variable& x, const Variable& weight, const Variable& bias, Activation activation) {
  const OpScope scope("linear");
  const LinearLayer layer("linear", x.data(), x.shape(), weight, bias);
  const Tensor xd = x.data(), z = Tensor::empty(layer.output(), x.dtype(), xd.device());
  const bool activated = activation != Activation::none;
  const Tensor y = activated ? empty_like(z) : z;
  if (activated) OpScope::touches(z);
  layer.forward(xd, activation, z, y);
  // Kept: x and weight, in the dtype of x; with an activation also z, the value before it.
  const Tensor kept = activated ? z : Tensor();
  return Variable::from_op("linear", y, {x, weight, bias},
                           [layer, xd, kept, activation](const Tensor& dy, GradientSink& sink) {
                             Tensor dz = dy, db;
                             if (kept.defined()) {
                               dz = empty_like(dy);
                               db = layer.activation_gradient(kept, activation, dy, dz, {}, sink.needs(2));
                             } else if (sink.needs(2) && !sink.needs(1)) {
                               db = layer.bias_gradient(dy);
                             }
                             if (sink.needs(0)) sink.add(0, layer.input_gradient(dz, sink.take(0)));
                             if (sink.needs(1)) {
                               OpScope::touches(xd);
                               auto g = layer.weight_gradient(dz, xd, sink.needs(2) && !db.defined());
                               sink.add(1, std::move(g.weight));
                               if (g.bias.defined()) db = std::move(g.bias);
                             }
                             if (db.defined()) sink.add(2, std::move(db));
                           });
}

Variable feed_forward(const Variable& x, const Variable& weight1, const Variable& bias1, Activation activation,
                      const Variable& weight2, const Variable& bias2) {
  if (x.data().device().kind == DeviceKind::cuda) return linear(linear(x, weight1, bias1, activation), weight2, bias2);
  const OpScope scope("feed_forward");
  const LinearLayer inner("feed_forward", x.data(), x.shape(), weight1, bias1);
  const LinearLayer outer("feed_forward", x.data(), inner.output(), weight2, bias2);
  const Tensor xd = x.data(), z = Tensor::empty(inner.output(), x.dtype(), xd.device());
  const Tensor y = Tensor::empty(outer.output(), x.dtype(), xd.device());
  inner.forward(xd, Activation::none, z, {});
  outer.activated_forward(z, activation, y);
  // Kept: x, the weights and z. The hidden layer is as large as z and costs little to make again from it.
  return Variable::from_op("feed_forward", y, {x, weight1, bias1, weight2, bias2},
                           [inner, outer, xd, z, activation](const Tensor& dy, GradientSink& sink) {
                             if (sink.needs(4)) sink.add(4, outer.bias_gradient(dy));
                             const bool inner_trains = sink.needs(0) || sink.needs(1) || sink.needs(2);
                             if (!inner_trains && !sink.needs(3)) return;
                             // Without a use for dz only the hidden layer is made, from any gradient of its shape.
                             const Tensor dhidden = inner_trains ? outer.input_gradient(dy) : z;
                             const Tensor dz = inner_trains ? dhidden : empty_like(z);
                             {
                               const Tensor hidden = sink.needs(3) ? empty_like(z) : Tensor();
                               Tensor db = inner.activation_gradient(z, activation, dhidden, dz, hidden, sink.needs(2));
                               if (db.defined()) sink.add(2, std::move(db));
                               if (hidden.defined()) sink.add(3, outer.weight_gradient(dy, hidden).weight);
                             }
                             if (sink.needs(0)) sink.add(0, inner.input_gradient(dz, sink.take(0)));
                             if (!sink.needs(1)) return;
                             OpScope::touches(xd);
                             sink.add(1, inner.weight_gradient(dz, xd).weight);
                           });
}

}  // namespace duet::ops
