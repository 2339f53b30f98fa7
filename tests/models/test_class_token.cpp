#include <gtest/gtest.h>

#include <functional>

#include "duet/autograd/engine.h"
#include "duet/core/trace.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/reduce.h"
#include "duet/tests/models/small_models.h"

// What a class token does not depend on is not computed, and nothing else changes.
namespace duet::models {
namespace {

struct Outcome {
  Tensor token, loss;
  std::vector<std::pair<std::string, Tensor>> gradients;
  int64_t flops = 0;
};

// Of a loss in which no two elements count alike.
Outcome outcome_of(const ParamStore& store, const std::function<Variable()>& class_token) {
  for (const Parameter& p : store.parameters()) Variable(p.value).clear_gradient();
  start_trace({});
  const Variable token = class_token();
  Random random(RandomKey{3, 1});
  const Tensor weights = Tensor::empty(token.shape(), token.dtype());
  for (double& w : weights.values<double>()) w = random.normal();
  const Variable loss = ops::mean(ops::multiply(ops::multiply(token, token), Variable(weights)));
  backward(loss);
  Outcome result{token.data(), loss.data(), {}};
  for (const TraceEvent& e : stop_trace().events) result.flops += e.flops;
  for (const Parameter& p : store.parameters())
    if (p.value.gradient().defined()) result.gradients.emplace_back(p.name, p.value.gradient().clone());
  return result;
}

void expect_near(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  for (int64_t i = 0; i < want.numel(); ++i) ASSERT_NEAR(got.at(i), want.at(i), 1e-12) << what << ", element " << i;
}

void expect_same(const Outcome& got, const Outcome& want, const std::string& what) {
  expect_near(got.token, want.token, what);
  expect_near(got.loss, want.loss, what + ", loss");
  ASSERT_EQ(got.gradients.size(), want.gradients.size()) << what;
  for (size_t i = 0; i < want.gradients.size(); ++i) {
    ASSERT_EQ(got.gradients[i].first, want.gradients[i].first) << what;
    expect_near(got.gradients[i].second, want.gradients[i].second, what + ", gradient of " + want.gradients[i].first);
  }
}

// Of a layer of a sample, forward and backward: the query, its scores and what they are multiplied with, the output
// projection and the MLP have one row instead of `tokens`.
int64_t left_out(const EncoderConfig& c, int64_t tokens) {
  return 3 * 2 * (tokens - 1) * c.hidden_size * (2 * c.hidden_size + 2 * tokens + 2 * c.intermediate_size);
}

TEST(ClassToken, OfImagesIsThatOfAllTokens) {
  Random random(RandomKey{5, 0});
  const Tensor images = Tensor::empty({4, 3, 6, 6}, DType::f64);
  for (double& v : images.values<double>()) v = random.normal();
  for (const int64_t layers : {0, 1, 2}) {
    VitConfig config = small_vit();
    config.num_hidden_layers = layers;
    config.initializer_range = 0.3;
    ParamStore store(1, DType::f64);
    const Vit vit({store, ""}, config, false);
    for (const bool recompute : {false, true}) {
      const models::Run run{true, RandomKey{11, 3}, recompute};
      const Outcome all = outcome_of(store, [&] { return first_token(vit(Variable(images), run)); });
      const Outcome token = outcome_of(store, [&] { return vit.class_token(Variable(images), run); });
      ASSERT_EQ(token.token.shape(), (Shape{4, 8}));
      expect_same(token, all, text(layers, " layers"));
      const int64_t saved = layers == 0 ? 0 : 4 * left_out(config, config.tokens());
      EXPECT_EQ(all.flops - token.flops, recompute ? saved + saved / 3 : saved);
    }
  }
}

TextInput texts_of(const std::vector<int64_t>& lengths, int64_t tokens) {
  const auto count = static_cast<int64_t>(lengths.size());
  Random random(RandomKey{8, 1});
  TextInput text{Tensor::empty({count, tokens}, DType::i32), {}, Tensor::zeros({count, tokens}, DType::u8)};
  for (int32_t& id : text.ids.values<int32_t>()) id = static_cast<int32_t>(1 + random.below(19));
  for (int64_t b = 0; b < count; ++b)
    std::fill_n(text.mask.data<uint8_t>() + b * tokens, lengths[static_cast<size_t>(b)], uint8_t{1});
  return text;
}

// How many tokens of each text are computed.
std::vector<int64_t> computed_lengths(const TextInput& text, bool packed) {
  const int64_t count = text.ids.dim(0), tokens = text.ids.dim(1);
  const Packing packing = packed && text.mask.defined() ? Packing::of(text.mask) : Packing();
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < count; ++b) lengths.push_back(packing.defined() ? packing.length(b) : tokens);
  return lengths;
}

TEST(ClassToken, OfTextsIsThatOfAllTokens) {
  TextInput holes = texts_of({7, 5}, 7), whole = texts_of({7, 7}, 7);
  holes.mask.data<uint8_t>()[2] = 0;
  whole.mask = {};
  const std::vector<TextInput> batches = {texts_of({7, 3, 1, 5, 2, 7}, 7),
                                          texts_of({2, 1, 4}, 7),
                                          texts_of({1}, 7),
                                          texts_of({5, 0, 2}, 7),
                                          texts_of({1, 1}, 1),
                                          holes,
                                          whole};
  for (const int64_t layers : {0, 1, 2}) {
    BertConfig config = small_bert();
    config.num_hidden_layers = layers;
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0;
    config.initializer_range = 0.3;
    ParamStore store(1, DType::f64);
    const Bert bert({store, ""}, config, false);
    for (size_t i = 0; i < batches.size(); ++i)
      for (const bool packed : {false, true}) {
        models::Run run{true, RandomKey{11, 3}};
        run.packed = packed;
        const Outcome all = outcome_of(store, [&] { return first_token(bert(batches[i], run)); });
        const Outcome token = outcome_of(store, [&] { return bert.class_token(batches[i], run); });
        expect_same(token, all, text(layers, " layers, texts ", i, packed ? " packed" : ""));
        int64_t saved = 0;
        for (const int64_t length : computed_lengths(batches[i], packed)) saved += left_out(config, length);
        EXPECT_EQ(all.flops - token.flops, layers == 0 ? 0 : saved) << i << packed;
      }
  }
}

}  // namespace
}  // namespace duet::models
