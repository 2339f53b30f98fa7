#pragma once

#include "duet/models/param_store.h"
#include "duet/models/run.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/linear.h"

namespace duet::models {

// y = activation(x W^T + b), weight (out, in).
struct Linear {
  Variable weight, bias;

  Linear(const ParamScope& scope, int64_t in, int64_t out, Init init, bool with_bias = true)
      : weight(scope.create("weight", {out, in}, init)) {
    if (with_bias) bias = scope.create("bias", {out}, Init::constant(0));
  }
  Variable operator()(const Variable& x, ops::Activation activation = ops::Activation::none) const {
    return ops::linear(x, weight, bias, activation);
  }
};

struct LayerNorm {
  Variable weight, bias;
  double eps;

  LayerNorm(const ParamScope& scope, int64_t width, double epsilon)
      : weight(scope.create("weight", {width}, Init::constant(1))),
        bias(scope.create("bias", {width}, Init::constant(0))),
        eps(epsilon) {}
  Variable operator()(const Variable& x) const { return ops::layer_norm(x, weight, bias, eps); }
  ops::AddLayerNorm add(const Variable& x, const Variable& residual) const {
    return ops::add_layer_norm(x, residual, weight, bias, eps);
  }
};

}  // namespace duet::models
