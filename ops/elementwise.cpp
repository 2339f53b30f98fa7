#include "duet/ops/elementwise.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"

namespace duet::ops {
namespace {

Tensor apply(const char* name, Binary op, const Tensor& a, const Tensor& b) {
  const Tensor y = empty_like(a);
  dispatch(name, a, [&]<class T>(auto context, Type<T>) { binary_forward<T>(context, op, a, b, y); });
  return y;
}

Tensor scaled(const char* name, const Tensor& x, double factor) {
  const Tensor y = empty_like(x);
  dispatch(name, x, [&]<class T>(auto context, Type<T>) { scale_forward<T>(context, factor, x, y); });
  return y;
}

// Sums a gradient of a's shape down to b's.
Tensor reduce_to(const Tensor& dy, const Tensor& b) {
  if (dy.shape() == b.shape()) return dy;
  const Tensor db = empty_like(b);
  dispatch(dy, [&]<class T>(auto context, Type<T>) { sum_leading<T>(context, dy, db); });
  return db;
}

void check_broadcast(const char* op, const Variable& a, const Variable& b) {
  bool fits = a.rank() >= b.rank() && a.dtype() == b.dtype();
  for (int i = 1; fits && i <= b.rank(); ++i) fits = a.dim(-i) == b.dim(-i);
  check_same_device(op, {a.data(), b.data()});
  check(fits, op, "b must match the last dimensions of a: a ", a, ", b ", b);
}

}  // namespace

Variable add(const Variable& a, const Variable& b) {
  const OpScope scope("add");
  check_broadcast("add", a, b);
  const Tensor bd = b.data();
  return Variable::from_op("add", apply("add", Binary::add, a.data(), bd), {a, b},
                           [bd](const Tensor& dy, GradientSink& sink) {
                             sink.add(0, dy);
                             if (sink.needs(1)) sink.add(1, reduce_to(dy, bd));
                           });
}

Variable subtract(const Variable& a, const Variable& b) {
  const OpScope scope("subtract");
  check_broadcast("subtract", a, b);
  const Tensor bd = b.data();
  return Variable::from_op("subtract", apply("subtract", Binary::subtract, a.data(), bd), {a, b},
                           [bd](const Tensor& dy, GradientSink& sink) {
                             sink.add(0, dy);
                             if (sink.needs(1)) sink.add(1, scaled("subtract", reduce_to(dy, bd), -1));
                           });
}

Variable multiply(const Variable& a, const Variable& b) {
  const OpScope scope("multiply");
  check_broadcast("multiply", a, b);
  const Tensor ad = a.data(), bd = b.data();
  return Variable::from_op("multiply", apply("multiply", Binary::multiply, ad, bd), {a, b},
                           [ad, bd](const Tensor& dy, GradientSink& sink) {
                             OpScope::touches(ad, bd);
                             if (sink.needs(0)) sink.add(0, apply("multiply", Binary::multiply, dy, bd));
                             if (sink.needs(1)) sink.add(1, reduce_to(apply("multiply", Binary::multiply, dy, ad), bd));
                           });
}

Variable divide(const Variable& a, const Variable& b) {
  const OpScope scope("divide");
  check_broadcast("divide", a, b);
  const Tensor bd = b.data(), y = apply("divide", Binary::divide, a.data(), bd);
  // da = dy / b, db = -dy y / b.
  return Variable::from_op("divide", y, {a, b}, [y, bd](const Tensor& dy, GradientSink& sink) {
    OpScope::touches(y, bd);
    const Tensor da = apply("divide", Binary::divide, dy, bd);
    if (sink.needs(1)) sink.add(1, scaled("divide", reduce_to(apply("multiply", Binary::multiply, da, y), bd), -1));
    sink.add(0, da);
  });
}

Variable scale(const Variable& x, double factor) {
  const OpScope scope("scale");
  return Variable::from_op(
      "scale", scaled("scale", x.data(), factor), {x},
      [factor](const Tensor& dy, GradientSink& sink) { sink.add(0, scaled("scale", dy, factor)); });
}

}  // namespace duet::ops
