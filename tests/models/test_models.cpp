#include <gtest/gtest.h>

#include <cmath>

#include "duet/autograd/engine.h"
#include "duet/core/trace.h"
#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/mean_tokens.h"
#include "duet/tests/train/expect.h"
#include "duet/tests/values.h"

namespace duet::models {
namespace {

using testing::values;
using train::message_of;

ClassifierConfig small_config(double dropout) {
  VitConfig vision;
  BertConfig text;
  for (EncoderConfig* c : {static_cast<EncoderConfig*>(&vision), static_cast<EncoderConfig*>(&text)}) {
    c->hidden_size = 12;
    c->intermediate_size = 20;
    c->num_attention_heads = 3;
    c->num_hidden_layers = 3;
    c->initializer_range = 0.3;
    c->hidden_dropout_prob = c->attention_probs_dropout_prob = dropout;
  }
  vision.image_size = 8;
  vision.patch_size = 4;
  text.vocab_size = 20;
  text.max_position_embeddings = 8;
  return {vision, text, {"a", "b", "c"}, dropout};
}

Variable random_images(int64_t batch, int64_t side, DType dtype = DType::f64) {
  Random random(RandomKey{5, 0});
  std::vector<double> values(static_cast<size_t>(batch * 3 * side * side));
  for (double& v : values) v = random.normal();
  return Variable(Tensor::from({batch, 3, side, side}, values).to(dtype));
}

TextInput some_text() {
  return {Tensor::from<int32_t>({2, 4}, {2, 7, 9, 3, 2, 5, 3, 0}),
          {},
          Tensor::from<uint8_t>({2, 4}, {1, 1, 1, 1, 1, 1, 1, 0})};
}

const Run training{true, RandomKey{11, 3}, false};

TEST(Models, DropoutRepeatsForTheSameKeyAndOnlyInTraining) {
  ParamStore store(1, DType::f64);
  const Classifier model({store, ""}, small_config(0.4));
  const Variable images = random_images(2, 8);
  const auto logits = [&](const models::Run& run) { return values(model(images, some_text(), run).data()); };
  EXPECT_EQ(logits(training), logits(training));
  EXPECT_NE(logits(training), logits({true, RandomKey{11, 4}, false}));
  EXPECT_NE(logits(training), logits({}));
  EXPECT_EQ(logits({}), logits({false, RandomKey{11, 4}, false}));
}

// Layers of equal weights on equal input differ by their dropout alone, so equal outputs would mean a shared stream.
TEST(Models, DropoutDiffersBetweenLayersAndParts) {
  EncoderConfig config = small_config(0.5).vision.value();
  config.attention_probs_dropout_prob = 0;
  ParamStore store(1, DType::f64);
  const Encoder encoder({store, ""}, config, NormPlacement::pre);
  // With zero output matrices and ones as bias each layer adds exactly its two dropout masks: 0 or 2 per element each.
  for (Parameter& p : store.parameters()) {
    if (p.name.ends_with("output.dense.weight")) p.value.data().fill(0);
    if (p.name.ends_with("output.dense.bias")) p.value.data().fill(p.name.find("attention") == p.name.npos ? 1 : 100);
  }
  std::vector<Variable> hidden;
  encoder(Variable(Tensor::zeros({2, 5, 12}, DType::f64)), {}, training, &hidden);
  ASSERT_EQ(hidden.size(), 4u);
  std::vector<std::vector<double>> added;
  for (size_t layer = 1; layer < hidden.size(); ++layer) {
    std::vector<double> attention, mlp;
    for (int64_t i = 0; i < hidden[layer].data().numel(); ++i) {
      const double sum = hidden[layer].data().at(i) - hidden[layer - 1].data().at(i);
      attention.push_back(std::floor(sum / 100));
      mlp.push_back(sum - 100 * attention.back());
      EXPECT_TRUE(attention.back() == 0 || attention.back() == 2) << sum;
      EXPECT_TRUE(mlp.back() == 0 || mlp.back() == 2) << sum;
    }
    added.insert(added.end(), {attention, mlp});
  }
  for (size_t a = 0; a < added.size(); ++a)
    for (size_t b = 0; b < a; ++b) EXPECT_NE(added[a], added[b]) << a << " and " << b;
}

// In float32 and bfloat16 sums of gradients are rounded, and so depend on what is added to what.
void check_recomputation(DType dtype, bool bfloat16, double dropout) {
  const auto gradients = [&](bool recompute) {
    ParamStore store(1, dtype);
    const Classifier model({store, ""}, small_config(dropout));
    models::Run run = training;
    run.recompute = recompute;
    run.bfloat16 = bfloat16;
    const Variable logits = model(random_images(2, 8, dtype), some_text(), run);
    const Variable loss = ops::cross_entropy(logits, Tensor::from<int64_t>({2}, {2, 0}));
    backward(loss);
    std::vector<std::vector<double>> all{values(loss.data())};
    for (const Parameter& p : store.parameters()) all.push_back(values(p.value.gradient()));
    return all;
  };
  EXPECT_EQ(gradients(false), gradients(true)) << dtype << bfloat16 << ' ' << dropout;
}
TEST(Models, RecomputingActivationsChangesNoBit) {
  for (const double dropout : {0.0, 0.3}) {
    check_recomputation(DType::f64, false, dropout);
    check_recomputation(DType::f32, false, dropout);
    check_recomputation(DType::f32, true, dropout);
  }
}

// Where the gradients of a layer's parts meet, the last op to run adds them: no pass over memory does only that.
TEST(Models, GradientsThatMeetInALayerAreAddedOnTheWay) {
  for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post})
    for (const double dropout : {0.0, 0.2}) {
      ParamStore store(1, DType::f32);
      const Encoder encoder({store, ""}, *small_config(dropout).vision, placement);
      const Variable x(Tensor::full({2, 5, 12}, DType::f32, 0.5), true);
      start_trace({});
      backward(encoder(x, {}, training), Tensor::full({2, 5, 12}, DType::f32, 1));
      int norms = 0, sums = 0;
      for (const TraceEvent& e : stop_trace().events) {
        norms += e.kind == ScopeKind::backward && std::string(e.name).ends_with("layer_norm") ? 1 : 0;
        sums += std::string(e.name) == "accumulate" ? 1 : 0;
      }
      EXPECT_GE(norms, 6);
      EXPECT_EQ(sums, 0) << (placement == NormPlacement::pre ? "pre " : "post ") << dropout;
    }
}

TEST(Models, PaddingDoesNotChangeTheOtherTokens) {
  ParamStore store(1, DType::f64);
  const Bert bert({store, ""}, *small_config(0).text, true);
  const TextInput shorter{Tensor::from<int32_t>({1, 3}, {2, 5, 3}), {}, {}};
  const TextInput padded{
      Tensor::from<int32_t>({1, 5}, {2, 5, 3, 0, 9}), {}, Tensor::from<uint8_t>({1, 5}, {1, 1, 1, 0, 0})};
  const Tensor a = bert(shorter, {}).data(), b = bert(padded, {}).data();
  for (int64_t i = 0; i < a.numel(); ++i) EXPECT_NEAR(a.at(i), b.at(i), 1e-13);
}

// The decoder's weight is the word embeddings and its bias a parameter of its own: both must reach the logits.
TEST(Models, MeanOfTheTokensLeavesOutPadding) {
  const Tensor x = Tensor::from<double>({3, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const Tensor mask = Tensor::from<uint8_t>({3, 2}, {1, 1, 1, 0, 0, 0});
  EXPECT_EQ(values(ops::mean_tokens(Variable(x), mask).data()), (std::vector<double>{2, 3, 5, 6, 10, 11}));
  EXPECT_EQ(values(ops::mean_tokens(Variable(x), {}).data()), (std::vector<double>{2, 3, 6, 7, 10, 11}));
  EXPECT_CONTAINS(message_of([&] { ops::mean_tokens(Variable(x), Tensor::zeros({2, 3}, DType::u8)); }), "does not fit");
}

TEST(Models, ClassifierOverTheMeanOfTheTokens) {
  ClassifierConfig config = small_config(0);
  config.text_pooling = ClassifierConfig::TextPooling::mean;
  ParamStore store(1, DType::f64);
  const Classifier model({store, ""}, config);
  EXPECT_FALSE(store.contains("text_model.pooler.dense.weight"));
  EXPECT_EQ(ClassifierConfig::from_json(config.to_json()).text_pooling, config.text_pooling);
  const Variable images = random_images(2, 8), logits = model(images, some_text(), {});
  const Tensor seen = first_token((*model.vision())(images, {})).data();
  const Tensor read = ops::mean_tokens((*model.text())(some_text(), {}), some_text().mask).data();
  const Tensor weight = store.at("classifier.weight").data();
  for (int64_t b = 0; b < 2; ++b) {
    double sum = 0;
    for (int64_t c = 0; c < 12; ++c)
      sum += weight.at(c) * seen.at(b * 12 + c) + weight.at(12 + c) * read.at(b * 12 + c);
    EXPECT_NEAR(logits.data().at(b * 3), sum, 1e-12);
  }
  backward(ops::cross_entropy(logits, Tensor::from<int64_t>({2}, {0, 2})));
  for (const Parameter& p : store.parameters()) EXPECT_TRUE(p.value.gradient().defined()) << p.name;
  config.vision.reset();
  EXPECT_CONTAINS(message_of([&] { Classifier({store, "other"}, config); }), "mean pooling");
  EXPECT_CONTAINS(message_of([&] {
                    Json json = config.to_json();
                    json["text_pooling"] = "mean";
                    ClassifierConfig::from_json(json);
                  }),
                  "text_pooling \"mean\" is not supported");
}

TEST(Models, MaskedLanguageHeadIsTied) {
  ParamStore store(1, DType::f64);
  const Bert bert({store, "text_model"}, *small_config(0).text, false);
  const MlmHead head({store, "cls.predictions"}, bert);
  EXPECT_FALSE(store.contains("cls.predictions.decoder.weight"));
  const Variable x(Tensor::full({1, 12}, DType::f64, 0.5));
  const Tensor before = head(x).data();
  store.at("cls.predictions.bias").data().fill(2);
  const Tensor after = head(x).data();
  for (int64_t i = 0; i < 20; ++i) EXPECT_NEAR(after.at(i), before.at(i) + 2, 1e-13);
  store.at("text_model.embeddings.word_embeddings.weight").data().fill(0);
  EXPECT_EQ(values(head(x).data()), std::vector<double>(20, 2.0));
}

TEST(Models, LogitScaleStaysWithinClipBounds) {
  DualEncoderConfig config;
  config.vision = *small_config(0).vision;
  config.text = *small_config(0).text;
  ParamStore store(1, DType::f64);
  DualEncoder model({store, ""}, config);
  Variable& scale = store.at("logit_scale");
  EXPECT_NEAR(scale.data().item(), std::log(1 / 0.07), 1e-3);
  for (const auto& [value, clamped] : {std::pair(7.0, std::log(100.0)), {-1.0, 0.0}, {1.5, 1.5}}) {
    scale.data().fill(value);
    model.clamp_logit_scale();
    EXPECT_EQ(scale.data().item(), clamped);
  }
}

TEST(Models, RefuseInputsThatDoNotFit) {
  ParamStore store(1);
  const ClassifierConfig config = small_config(0);
  const Classifier model({store, ""}, config);
  EXPECT_CONTAINS(message_of([&] { model(random_images(2, 16, DType::f32), some_text(), {}); }), "(2, 3, 16, 16)");
  EXPECT_CONTAINS(message_of([&] { model(random_images(3, 8, DType::f32), some_text(), {}); }), "differ in number");
  const TextInput long_text{Tensor::zeros({1, 9}, DType::i32), {}, {}};
  const std::string message = message_of([&] { (*model.text())(long_text, {}); });
  EXPECT_CONTAINS(message, "9 tokens");
  EXPECT_CONTAINS(message, "1 to 8");
  const TextInput flat{Tensor::zeros({9}, DType::i32), {}, {}};
  EXPECT_CONTAINS(message_of([&] { (*model.text())(flat, {}); }), "(B, T)");
  EXPECT_CONTAINS(message_of([&] { model.vision()->pool(random_images(1, 8)); }), "without a pooler");
  const Vit with_pooler({store, "pooled"}, *config.vision, true);
  EXPECT_CONTAINS(message_of([&] { with_pooler.pool(Variable(Tensor::zeros({2, 5, 12}, DType::f32))); }), "(2, 5, 12)");
  ClassifierConfig nothing{{}, {}, {"a"}, 0};
  EXPECT_CONTAINS(message_of([&] { Classifier({store, "x"}, nothing); }), "vision part, a text part");
  ClassifierConfig unlabelled = config;
  unlabelled.labels.clear();
  EXPECT_CONTAINS(message_of([&] { Classifier({store, "y"}, unlabelled); }), "at least one label");
}

}  // namespace
}  // namespace duet::models
