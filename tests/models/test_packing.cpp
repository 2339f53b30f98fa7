#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>

#include "duet/autograd/engine.h"
#include "duet/core/trace.h"
#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/reshape.h"
#include "duet/ops/scatter_rows.h"
#include "duet/tests/models/small_models.h"

// Leaving padding out changes no number.
namespace duet::models {
namespace {

Tensor mask_of(int64_t tokens, const std::vector<int64_t>& lengths) {
  const auto texts = static_cast<int64_t>(lengths.size());
  const Tensor mask = Tensor::zeros({texts, tokens}, DType::u8);
  for (int64_t b = 0; b < texts; ++b)
    std::fill_n(mask.data<uint8_t>() + b * tokens, lengths[static_cast<size_t>(b)], uint8_t{1});
  return mask;
}

// Padding has ids and types like any token: they must not matter.
TextInput texts_with(const Tensor& mask, bool types = true) {
  Random random(RandomKey{8, 1});
  TextInput text{Tensor::empty(mask.shape(), DType::i32), {}, mask};
  for (int32_t& id : text.ids.values<int32_t>()) id = static_cast<int32_t>(1 + random.below(19));
  if (!types) return text;
  text.type_ids = Tensor::empty(mask.shape(), DType::i32);
  for (int32_t& type : text.type_ids.values<int32_t>()) type = static_cast<int32_t>(random.below(3));
  return text;
}

template <class Config>
Config with_dropout(Config config) {
  config.hidden_dropout_prob = 0.3;
  config.attention_probs_dropout_prob = 0.2;
  config.initializer_range = 0.3;
  return config;
}

Variable images_of(const ParamStore& store, int64_t count) {
  Random random(RandomKey{5, 0});
  const Tensor images = Tensor::empty({count, 3, 6, 6}, DType::f64);
  for (double& v : images.values<double>()) v = random.normal();
  return Variable(images.to(store.dtype()));
}

// Creates the model in the store, and gives the loss of a run over the texts.
using Loss = std::function<Variable(const TextInput&, const Run&)>;
struct Model {
  const char* name;
  Loss (*make)(ParamStore&);
};

Loss classifier(ParamStore& store, std::optional<VitConfig> vision, ClassifierConfig::TextPooling pooling) {
  ClassifierConfig config{vision, with_dropout(small_bert()), {"a", "b", "c"}, 0.2};
  config.text_pooling = pooling;
  return [&store, vision, model = std::make_shared<Classifier>(ParamScope{store, ""}, config)](const TextInput& text,
                                                                                               const Run& run) {
    const int64_t count = text.ids.dim(0);
    std::vector<int64_t> labels;
    for (int64_t b = 0; b < count; ++b) labels.push_back(b % 3);
    const Variable logits = (*model)(vision ? images_of(store, count) : Variable(), text, run);
    return ops::cross_entropy(logits, Tensor::from({count}, labels));
  };
}

Loss dual_encoder(ParamStore& store) {
  DualEncoderConfig config;
  config.vision = small_vit();
  config.text = with_dropout(small_bert());
  config.projection_dim = 5;
  return [&store, model = std::make_shared<DualEncoder>(ParamScope{store, ""}, config)](const TextInput& text,
                                                                                        const Run& run) {
    return model->loss(model->text_features(text, run), model->image_features(images_of(store, text.ids.dim(0)), run));
  };
}

// Predicts the first and the last token of every text.
Loss masked_language_model(ParamStore& store) {
  const auto bert = std::make_shared<Bert>(ParamScope{store, "text_model"}, with_dropout(small_bert()), false);
  return [bert, head = MlmHead({store, "cls.predictions"}, *bert)](const TextInput& text, const Run& run) {
    const int64_t tokens = text.ids.dim(1);
    std::vector<int64_t> positions, labels;
    for (int64_t b = 0; b < text.ids.dim(0); ++b) {
      int64_t last = tokens - 1;
      while (text.mask.defined() && last > 0 && text.mask.at(b * tokens + last) == 0) --last;
      for (const int64_t t : {int64_t{0}, last}) {
        positions.push_back(b * tokens + t);
        labels.push_back((3 * b + t) % 20);
      }
    }
    const auto count = static_cast<int64_t>(labels.size());
    const Variable hidden = (*bert)(text, run);
    const Variable flat = ops::reshape(hidden, {hidden.dim(0) * tokens, hidden.dim(2)});
    return ops::cross_entropy(head(ops::gather_rows(flat, Tensor::from({count}, positions))),
                              Tensor::from({count}, labels));
  };
}

const std::vector<Model> all_models = {
    {"classifier",
     [](ParamStore& s) { return classifier(s, with_dropout(small_vit()), ClassifierConfig::TextPooling::pooler); }},
    {"mean_pooling", [](ParamStore& s) { return classifier(s, small_vit(), ClassifierConfig::TextPooling::mean); }},
    {"text_alone", [](ParamStore& s) { return classifier(s, {}, ClassifierConfig::TextPooling::pooler); }},
    {"dual_encoder", dual_encoder},
    {"masked_language_model", masked_language_model}};

struct Result {
  Tensor loss;
  std::vector<std::pair<std::string, Tensor>> gradients;
  int64_t flops = 0;  // of the matrix products that were computed
};

Result result_of(const Model& model, DType dtype, const TextInput& text, Run run) {
  ParamStore store(1, dtype);
  const Loss loss_of = model.make(store);
  start_trace({});
  const Variable loss = loss_of(text, run);
  backward(loss);
  Result result{loss.data(), {}};
  for (const TraceEvent& e : stop_trace().events) result.flops += e.flops;
  for (const Parameter& p : store.parameters()) result.gradients.emplace_back(p.name, p.value.gradient());
  return result;
}

void expect_equal(const Tensor& got, const Tensor& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.defined(), want.defined()) << what;
  if (!want.defined()) return;
  ASSERT_EQ(got.shape(), want.shape()) << what;
  double largest = 1e-2;
  for (int64_t i = 0; i < want.numel(); ++i) largest = std::max(largest, std::abs(want.at(i)));
  for (int64_t i = 0; i < want.numel(); ++i)
    ASSERT_LE(std::abs(got.at(i) - want.at(i)), tolerance * largest)
        << what << ", element " << i << ": " << got.at(i) << " and " << want.at(i);
}

void expect_same(const Result& packed, const Result& padded, double tolerance, const std::string& what) {
  expect_equal(packed.loss, padded.loss, tolerance, what + ", loss");
  ASSERT_EQ(packed.gradients.size(), padded.gradients.size());
  for (size_t i = 0; i < packed.gradients.size(); ++i)
    expect_equal(packed.gradients[i].second, padded.gradients[i].second, tolerance,
                 what + ", gradient of " + padded.gradients[i].first);
}

const std::vector<std::vector<int64_t>> batches_of_lengths = {{7, 3, 1, 5, 2, 7}, {2, 1, 4}, {1}};

class PackingOf : public ::testing::TestWithParam<Model> {};

TEST_P(PackingOf, LossAndGradientsAreThoseOfPaddedTexts) {
  for (const auto& [dtype, tolerance] : {std::pair(DType::f64, 1e-12), {DType::f32, 1e-5}})
    for (const bool recompute : {false, true})
      for (const std::vector<int64_t>& lengths : batches_of_lengths) {
        const TextInput text = texts_with(mask_of(7, lengths), /*types=*/recompute);
        models::Run run{true, RandomKey{11, 3}, recompute};
        const Result packed = result_of(GetParam(), dtype, text, run);
        run.packed = false;
        const Result padded = result_of(GetParam(), dtype, text, run);
        expect_same(packed, padded, tolerance,
                    duet::text(dtype, ", recompute ", recompute, ", ", lengths.size(), " texts"));
        EXPECT_LT(packed.flops, padded.flops);
      }
}

TEST_P(PackingOf, InBfloat16) {
  const TextInput text = texts_with(mask_of(7, batches_of_lengths[0]));
  models::Run run{.training = true, .random = RandomKey{11, 3}, .bfloat16 = true};
  const Result packed = result_of(GetParam(), DType::f32, text, run);
  run.packed = false;
  const Result padded = result_of(GetParam(), DType::f32, text, run);
  expect_same(packed, padded, 3e-2, "bfloat16");
  EXPECT_LT(packed.flops, padded.flops);
}

// A text of padding alone attends to all of it, and holes have no rows of their own: such batches are computed whole.
TEST_P(PackingOf, OtherMasksAreComputedWhole) {
  const Tensor holes = mask_of(7, {7, 5}), front = mask_of(7, {7, 5});
  holes.data<uint8_t>()[2] = 0;
  front.data<uint8_t>()[0] = 0;
  for (const Tensor& mask : {mask_of(7, {5, 0, 2}), mask_of(7, {7, 7}), holes, front, Tensor()}) {
    TextInput text = texts_with(mask.defined() ? mask : mask_of(7, {7, 7}));
    text.mask = mask;
    models::Run run{true, RandomKey{11, 3}, false};
    const Result packed = result_of(GetParam(), DType::f64, text, run);
    run.packed = false;
    const Result padded = result_of(GetParam(), DType::f64, text, run);
    expect_same(packed, padded, 0, duet::text(mask));
    EXPECT_EQ(packed.flops, padded.flops) << mask;
    EXPECT_TRUE(std::isfinite(packed.loss.item())) << mask;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, PackingOf, ::testing::ValuesIn(all_models),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(Packing, OfAMask) {
  const Packing p = Packing::of(mask_of(4, {2, 4, 1}));
  ASSERT_TRUE(p.defined());
  const auto list = [](const Tensor& t) {
    const auto values = t.values<int64_t>();
    return std::vector(values.begin(), values.end());
  };
  EXPECT_EQ(list(p.starts), (std::vector<int64_t>{0, 2, 6, 7}));
  EXPECT_EQ(list(p.rows), (std::vector<int64_t>{0, 1, 4, 5, 6, 7, 8}));
  EXPECT_EQ(list(p.positions()), (std::vector<int64_t>{0, 1, 0, 1, 2, 3, 0}));
  EXPECT_EQ(list(p.take(Tensor::arange(12))), list(p.rows));
  EXPECT_EQ(p.take(Tensor::zeros({3, 4}, DType::i32)).dtype(), DType::i32);
  EXPECT_EQ(p.tokens, 4);
  EXPECT_EQ(p.texts, 3);
  EXPECT_EQ(p.real, 7);
  EXPECT_EQ(p.length(1), 4);
  // Filled up with copies of the first row, in sequences that are no longer than a text may be.
  const Packing filled = Packing::of(mask_of(4, {2, 4, 1}), 13);
  EXPECT_EQ(list(filled.starts), (std::vector<int64_t>{0, 2, 6, 7, 11, 13}));
  EXPECT_EQ(list(filled.rows), (std::vector<int64_t>{0, 1, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(filled.texts, 3);
  EXPECT_EQ(filled.real, 7);
}

TEST(Packing, KeepsTheStatesOfRealTokensAndZerosTheRest) {
  ParamStore store(1, DType::f64);
  const Bert bert({store, ""}, with_dropout(small_bert()), false);
  const TextInput text = texts_with(mask_of(7, batches_of_lengths[0]));
  models::Run run{true, RandomKey{11, 3}, false};
  const Tensor packed = bert(text, run).data();
  std::vector<Variable> states;
  const Tensor with_states = bert(text, run, &states).data();
  run.packed = false;
  const Tensor padded = bert(text, run).data();
  ASSERT_EQ(packed.shape(), (Shape{6, 7, 6}));
  for (int64_t i = 0; i < packed.numel(); ++i) {
    EXPECT_EQ(with_states.at(i), padded.at(i));
    EXPECT_NE(padded.at(i), 0);
    EXPECT_NEAR(packed.at(i), text.mask.at(i / 6) == 0 ? 0 : padded.at(i), 1e-13) << i;
  }
}

}  // namespace
}  // namespace duet::models
