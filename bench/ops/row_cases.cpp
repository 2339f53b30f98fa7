#include "duet/bench/ops/cases.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/l2_normalize.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/reduce.h"
#include "duet/ops/softmax.h"

namespace duet::bench {
namespace {

Case softmax(const Model& m) {
  return {"softmax", label(m.name, "scores", {m.batch, m.heads, m.tokens, m.tokens}), [=](DType dtype) {
            const Variable x = random({m.batch, m.heads, m.tokens, m.tokens}, dtype);
            return [=] { return ops::softmax(x); };
          }};
}

Case layer_norm(const Model& m) {
  return {"layer_norm", label(m.name, "", {m.rows(), m.width}), [=](DType dtype) {
            const Variable x = random({m.rows(), m.width}, dtype);
            const Variable w = parameter({m.width}, dtype), b = parameter({m.width}, dtype);
            return [=] { return ops::layer_norm(x, w, b, 1e-6); };
          }};
}

Case add_layer_norm(const Model& m) {
  return {"add_layer_norm", label(m.name, "", {m.rows(), m.width}), [=](DType dtype) {
            const Variable x = random({m.rows(), m.width}, dtype), residual = random({m.rows(), m.width}, dtype);
            const Variable w = parameter({m.width}, dtype), b = parameter({m.width}, dtype);
            return [=] { return ops::add_layer_norm(x, residual, w, b, 1e-6).normalised; };
          }};
}

Case reduction(const char* op, const Model& m, Variable (*reduce)(const Variable&)) {
  return {op, label(m.name, "", {m.rows(), m.width}), [=](DType dtype) {
            const Variable x = random({m.rows(), m.width}, dtype);
            return [=] { return reduce(x); };
          }};
}

Case l2_normalize(const Pair& pair) {
  return {"l2_normalize", label(pair.name, "projection", {pair.vision.batch, pair.projection}), [=](DType dtype) {
            const Variable x = random({pair.vision.batch, pair.projection}, dtype);
            return [=] { return ops::l2_normalize(x); };
          }};
}

Case cross_entropy(const char* model, const char* detail, int64_t rows, int64_t classes) {
  return {"cross_entropy", label(model, detail, {rows, classes}), [=](DType dtype) {
            const Variable logits = random({rows, classes}, dtype);
            const Tensor labels = random_ids({rows}, classes);
            return [=] { return ops::cross_entropy(logits, labels); };
          }};
}

}  // namespace

void add_row_cases(std::vector<Case>& cases) {
  for (const Model& m : models) {
    cases.push_back(softmax(m));
    cases.push_back(layer_norm(m));
    cases.push_back(add_layer_norm(m));
    cases.push_back(reduction("sum", m, ops::sum));
    cases.push_back(reduction("mean", m, ops::mean));
    cases.push_back(reduction("sum_last", m, ops::sum_last));
    cases.push_back(reduction("mean_last", m, ops::mean_last));
  }
  for (const Pair& pair : pairs) {
    cases.push_back(l2_normalize(pair));
    cases.push_back(cross_entropy(pair.name, "head", pair.vision.batch, 10));
    cases.push_back(cross_entropy(pair.name, "similarity", pair.vision.batch, pair.vision.batch));
  }
  cases.push_back(cross_entropy("bert-base", "words", 153, vocabulary));  // 15 % of 8 x 128 positions are masked
}

}  // namespace duet::bench
