#include "duet/autograd/checkpoint.h"
#include "duet/bench/ops/cases.h"
#include "duet/ops/attention.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/linear.h"
#include "duet/ops/matmul.h"
#include "duet/ops/patch_embedding.h"

namespace duet::bench {
namespace {

constexpr int64_t classes = 10;
constexpr int64_t masked = 153;  // 15 % of BERT-base's 8 x 128 positions

Case linear(const std::string& model, const char* layer, int64_t rows, int64_t in, int64_t out,
            ops::Activation activation = ops::Activation::none) {
  return {"linear", label(model, layer, {rows, in, out}), [=](DType dtype) {
            const Variable x = random({rows, in}, dtype), w = parameter({out, in}, dtype), b = parameter({out}, dtype);
            return [=] { return ops::linear(x, w, b, activation); };
          }};
}

Case feed_forward(const Model& m) {
  return {"feed_forward", label(m.name, "", {m.rows(), m.width, 4 * m.width}), [=](DType dtype) {
            const int64_t c = m.width;
            const Variable x = random({m.rows(), c}, dtype);
            const Variable w1 = parameter({4 * c, c}, dtype), b1 = parameter({4 * c}, dtype);
            const Variable w2 = parameter({c, 4 * c}, dtype), b2 = parameter({c}, dtype);
            return [=] { return ops::feed_forward(x, w1, b1, ops::Activation::gelu, w2, b2); };
          }};
}

// What attention is made of.
Case scores(const Model& m) {
  const int64_t batch = m.batch * m.heads, head_size = m.width / m.heads;
  return {"matmul", label(m.name, "scores", {batch, m.tokens, head_size, m.tokens}), [=](DType dtype) {
            const Variable q = random({batch, m.tokens, head_size}, dtype), k = random(q.shape(), dtype);
            return [=] { return ops::matmul(q, k, false, true); };
          }};
}

// Every image against every text of a batch.
Case similarity(const Pair& pair) {
  const int64_t batch = pair.vision.batch, width = pair.projection;
  return {"matmul", label(pair.name, "similarity", {batch, width, batch}), [=](DType dtype) {
            const Variable images = random({batch, width}, dtype), texts = random({batch, width}, dtype);
            return [=] { return ops::matmul(images, texts, false, true); };
          }};
}

Case attention(const Model& m, double dropout) {
  return {"attention", label(m.name, dropout > 0 ? "dropout" : "", {m.batch, m.heads, m.tokens, m.width / m.heads}),
          [=](DType dtype) {
            const Variable qkv = random({m.batch, m.tokens, 3 * m.width}, dtype);
            const Tensor mask = Tensor::full({m.batch, m.tokens}, DType::u8, 1);
            return [=] {
              return ops::attention(
                  qkv, {.heads = m.heads, .key_mask = mask, .dropout = dropout, .random = RandomKey{0, 2}});
            };
          }};
}

// Texts of lengths that are spread evenly, half of the longest on average, without padding.
Case attention_unpadded(const Model& m) {
  return {"attention", label(m.name, "unpadded", {m.batch, m.heads, m.tokens, m.width / m.heads}), [=](DType dtype) {
            std::vector<int64_t> starts{0};
            for (int64_t b = 1; b <= m.batch; ++b) starts.push_back(starts.back() + b * m.tokens / m.batch);
            const Variable qkv = random({starts.back(), 3 * m.width}, dtype);
            const Tensor begins = Tensor::from({m.batch + 1}, starts);
            return [=] {
              return ops::attention(
                  qkv, {.heads = m.heads, .random = RandomKey{0, 2}, .starts = begins, .longest = m.tokens});
            };
          }};
}

// With the projections to query, keys and values.
Case class_attention(const Model& m) {
  return {"class_attention", label(m.name, "", {m.batch, m.heads, m.tokens, m.width / m.heads}), [=](DType dtype) {
            const Variable x = random({m.batch, m.tokens, m.width}, dtype);
            const Variable w = parameter({3 * m.width, m.width}, dtype), b = parameter({3 * m.width}, dtype);
            return [=] { return ops::class_attention(x, w, b, {.heads = m.heads}); };
          }};
}

// The images need no gradient, so backward has the weight's product only.
Case patch_embedding(const Model& m, int64_t side, int64_t patch) {
  return {
      "patch_embedding", label(m.name, text("p", patch), {m.batch, 3, side, side}), [=](DType dtype) {
        const Variable images = random({m.batch, 3, side, side}, dtype, false);
        const Variable w = parameter({m.width, 3, patch, patch}, dtype), b = parameter({m.width}, dtype);
        const Variable token = parameter({1, 1, m.width}, dtype), positions = parameter({1, m.tokens, m.width}, dtype);
        return [=] { return ops::patch_embedding(images, w, b, token, positions); };
      }};
}

// The half of a layer after attention, with its activations computed again in the backward pass.
Case recompute_mlp(const Model& m) {
  return {"recompute", label(m.name, "mlp", {m.rows(), m.width}), [=](DType dtype) {
            const int64_t c = m.width;
            const Variable x = random({m.rows(), c}, dtype), w = parameter({c}, dtype), b = parameter({c}, dtype);
            const Variable w1 = parameter({4 * c, c}, dtype), b1 = parameter({4 * c}, dtype);
            const Variable w2 = parameter({c, 4 * c}, dtype), b2 = parameter({c}, dtype);
            const auto mlp = [=](const std::vector<Variable>& in) {
              return ops::feed_forward(ops::layer_norm(in[0], w, b, 1e-6), w1, b1, ops::Activation::gelu, w2, b2);
            };
            return [=] { return recompute(mlp, {x}); };
          }};
}

}  // namespace

void add_matrix_cases(std::vector<Case>& cases) {
  // How attention grows with the tokens; peak_MiB shows that its memory does so in proportion.
  for (int64_t tokens = 128; tokens <= 4096; tokens *= 2) cases.push_back(attention({"long", 1, tokens, 768, 12}, 0));
  for (const Model& m : models) {
    const int64_t c = m.width;
    cases.push_back(linear(m.name, "qkv", m.rows(), c, 3 * c));
    cases.push_back(linear(m.name, "output", m.rows(), c, c));
    cases.push_back(linear(m.name, "mlp_in_gelu", m.rows(), c, 4 * c, ops::Activation::gelu));
    cases.push_back(linear(m.name, "mlp_out", m.rows(), 4 * c, c));
    cases.push_back(feed_forward(m));
    cases.push_back(scores(m));
    cases.push_back(attention(m, 0));
    cases.push_back(class_attention(m));
  }
  for (const Model& m : text_models) {
    cases.push_back(linear(m.name, "pooler", m.batch, m.width, m.width));
    cases.push_back(attention(m, 0.1));
    cases.push_back(attention_unpadded(m));
  }
  for (const Pair& pair : pairs) {
    cases.push_back(linear(pair.name, "head", pair.vision.batch, pair.vision.width + pair.text.width, classes));
    cases.push_back(similarity(pair));
  }
  cases.push_back(linear("bert-base", "words", masked, bert_base.width, vocabulary));
  cases.push_back(patch_embedding(vit_base, 224, 16));
  cases.push_back(patch_embedding(vit_tiny, 224, 16));
  cases.push_back(patch_embedding(vit_mini, 64, 8));
  for (const Model& m : {vit_base, vit_tiny, vit_mini}) cases.push_back(recompute_mlp(m));
}

}  // namespace duet::bench
