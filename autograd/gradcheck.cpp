#include "duet/autograd/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "duet/autograd/engine.h"
#include "duet/autograd/grad_mode.h"
#include "duet/core/philox.h"

namespace duet {
namespace {

Tensor projection_like(const Tensor& y) {
  Random random(RandomKey{1234, 0}.child("gradcheck"));
  const Tensor p = empty_like(y);
  for (double& v : p.values<double>()) v = random.normal();
  return p;
}

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.numel(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
  return sum;
}

Shape position(const Shape& shape, int64_t flat) {
  Shape index = shape;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    index.set(axis, flat % shape[axis]);
    flat /= shape[axis];
  }
  return index;
}

}  // namespace

GradcheckResult gradcheck(const std::function<Variable(const std::vector<Variable>&)>& f,
                          const std::vector<Variable>& inputs, double tolerance, double step) {
  const Variable y = f(inputs);
  check(y.dtype() == DType::f64, "gradcheck", "runs in float64, the function returned ", y);
  const Tensor seed = projection_like(y.data());
  const std::vector<Tensor> analytic = gradients({y}, {seed}, inputs);
  GradcheckResult result;
  const NoGrad no_grad;
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (!inputs[k].requires_grad()) continue;
    const Tensor& x = inputs[k].data();
    std::vector<double> numeric(static_cast<size_t>(x.numel()));
    double scale = 1e-8;
    for (int64_t i = 0; i < x.numel(); ++i) {
      double& element = x.data<double>()[i];
      const double original = element, h = step * std::max(1.0, std::abs(original));
      element = original + h;
      const double above = dot(f(inputs).data(), seed);
      element = original - h;
      const double below = dot(f(inputs).data(), seed);
      element = original;
      numeric[static_cast<size_t>(i)] = (above - below) / (2 * h);
      scale = std::max(scale, std::abs(numeric[static_cast<size_t>(i)]));
      if (analytic[k].defined()) scale = std::max(scale, std::abs(analytic[k].at(i)));
    }
    for (int64_t i = 0; i < x.numel(); ++i) {
      const double a = analytic[k].defined() ? analytic[k].at(i) : 0, n = numeric[static_cast<size_t>(i)];
      const double error = std::abs(a - n) / std::max(1e-3, scale);
      // Written so that NaN counts as a failure.
      if (!(error <= tolerance)) result.ok = false;
      if (!(error <= result.worst_error)) {
        result.worst_error = error;
        result.worst =
            text("input ", k, " element ", i, " at ", position(x.shape(), i), ": analytic ", a, ", numeric ", n);
      }
    }
  }
  return result;
}

}  // namespace duet
