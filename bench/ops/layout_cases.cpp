#include "duet/bench/ops/cases.h"
#include "duet/ops/concat.h"
#include "duet/ops/embedding.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/mean_tokens.h"
#include "duet/ops/reshape.h"
#include "duet/ops/scatter_rows.h"
#include "duet/ops/slice.h"

namespace duet::bench {
namespace {

// The gradient is dense: backward writes all of the vocabulary.
Case embedding(const Model& m) {
  return {"embedding", label(m.name, "words", {m.rows(), vocabulary, m.width}), [=](DType dtype) {
            const Variable weight = random({vocabulary, m.width}, dtype);
            const Tensor ids = random_ids({m.batch, m.tokens}, vocabulary);
            return [=] { return ops::embedding(ids, weight, 0); };
          }};
}

// The tokens that masked-language modelling looks at.
Case gather_masked(const Model& m) {
  const int64_t count = m.rows() * 15 / 100;
  return {"gather_rows", label(m.name, "masked", {m.rows(), count, m.width}), [=](DType dtype) {
            const Variable x = random({m.rows(), m.width}, dtype);
            const Tensor indices = random_ids({count}, m.rows());
            return [=] { return ops::gather_rows(x, indices); };
          }};
}

// The states of real tokens back among padding, which is half of all.
Case scatter_tokens(const Model& m) {
  const int64_t count = m.rows() / 2;
  return {"scatter_rows", label(m.name, "tokens", {count, m.rows(), m.width}), [=](DType dtype) {
            const Variable x = random({count, m.width}, dtype);
            std::vector<int64_t> rows;
            for (int64_t i = 0; i < count; ++i) rows.push_back(i / (m.tokens / 2) * m.tokens + i % (m.tokens / 2));
            const Tensor indices = Tensor::from({count}, rows);
            return [=] { return ops::scatter_rows(x, indices, m.rows()); };
          }};
}

Case concat_pooled(const Pair& pair) {
  const int64_t batch = pair.vision.batch;
  return {"concat", label(pair.name, "pooled", {batch, pair.vision.width, pair.text.width}), [=](DType dtype) {
            const Variable image = random({batch, pair.vision.width}, dtype);
            const Variable words = random({batch, pair.text.width}, dtype);
            return [=] { return ops::concat({image, words}, 1); };
          }};
}

Case slice_class_token(const Model& m) {
  return {"slice", label(m.name, "class_token", {m.batch, m.tokens, m.width}), [=](DType dtype) {
            const Variable x = random({m.batch, m.tokens, m.width}, dtype);
            return [=] { return ops::slice(x, 1, 0, 1); };
          }};
}

Case reshape(const Model& m) {
  return {"reshape", label(m.name, "", {m.batch, m.tokens, m.width}), [=](DType dtype) {
            const Variable x = random({m.batch, m.tokens, m.width}, dtype);
            return [=] { return ops::reshape(x, {m.rows(), m.width}); };
          }};
}

// Half of the tokens are padding.
Case mean_tokens(const Model& m) {
  return {"mean_tokens", label(m.name, "", {m.batch, m.tokens, m.width}), [=](DType dtype) {
            const Variable x = random({m.batch, m.tokens, m.width}, dtype);
            const Tensor mask = Tensor::zeros({m.batch, m.tokens}, DType::u8);
            for (int64_t i = 0; i < m.rows(); ++i)
              if (i % m.tokens < m.tokens / 2) mask.data<uint8_t>()[i] = 1;
            return [=] { return ops::mean_tokens(x, mask); };
          }};
}

}  // namespace

void add_layout_cases(std::vector<Case>& cases) {
  for (const Model& m : text_models) {
    cases.push_back(embedding(m));
    cases.push_back(gather_masked(m));
    cases.push_back(scatter_tokens(m));
    cases.push_back(mean_tokens(m));
  }
  for (const Pair& pair : pairs) cases.push_back(concat_pooled(pair));
  for (const Model& m : models) {
    cases.push_back(slice_class_token(m));
    cases.push_back(reshape(m));
  }
}

}  // namespace duet::bench
