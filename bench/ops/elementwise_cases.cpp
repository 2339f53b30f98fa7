#include "duet/bench/ops/cases.h"
#include "duet/ops/cast.h"
#include "duet/ops/dropout.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/exp.h"
#include "duet/ops/gelu.h"
#include "duet/ops/tanh.h"

namespace duet::bench {
namespace {

// An op on one tensor of (rows, width).
Case unary(const char* op, const Model& m, const char* detail, int64_t rows, int64_t width,
           const std::function<Variable(const Variable&)>& apply) {
  return {op, label(m.name, detail, {rows, width}), [=](DType dtype) {
            const Variable x = random({rows, width}, dtype);
            return [=] { return apply(x); };
          }};
}

Case binary(const char* op, const Model& m, Variable (*apply)(const Variable&, const Variable&)) {
  return {op, label(m.name, "", {m.rows(), m.width}), [=](DType dtype) {
            // Nothing near zero, for division.
            const Variable a = random({m.rows(), m.width}, dtype);
            const Variable b(Tensor::full(a.shape(), dtype, 0.75), true);
            return [=] { return apply(a, b); };
          }};
}

// Position embeddings, the same for every sample of the batch.
Case add_positions(const Model& m) {
  return {"add", label(m.name, "positions", {m.batch, m.tokens, m.width}), [=](DType dtype) {
            const Variable x = random({m.batch, m.tokens, m.width}, dtype), p = random({m.tokens, m.width}, dtype);
            return [=] { return ops::add(x, p); };
          }};
}

}  // namespace

void add_elementwise_cases(std::vector<Case>& cases) {
  for (const Model& m : models) {
    cases.push_back(unary("gelu", m, "mlp", m.rows(), 4 * m.width, [](const Variable& x) { return ops::gelu(x); }));
    cases.push_back(unary("exp", m, "", m.rows(), m.width, ops::exp));
    cases.push_back(unary("scale", m, "", m.rows(), m.width, [](const Variable& x) { return ops::scale(x, 0.125); }));
    cases.push_back(unary("cast", m, "", m.rows(), m.width, [](const Variable& x) {
      return ops::cast(x, x.dtype() == DType::bf16 ? DType::f32 : DType::bf16);
    }));
    cases.push_back(binary("add", m, ops::add));
    cases.push_back(binary("subtract", m, ops::subtract));
    cases.push_back(binary("multiply", m, ops::multiply));
    cases.push_back(binary("divide", m, ops::divide));
  }
  for (const Model& m : text_models) {
    cases.push_back(add_positions(m));
    cases.push_back(unary("tanh", m, "pooler", m.batch, m.width, ops::tanh));
    cases.push_back(unary("tanh", m, "", m.rows(), m.width, ops::tanh));
    cases.push_back(unary("dropout", m, "", m.rows(), m.width, [](const Variable& x) {
      return ops::dropout(x, 0.1, RandomKey{0, 3});
    }));
  }
}

}  // namespace duet::bench
