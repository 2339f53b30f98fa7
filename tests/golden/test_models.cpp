#include <gtest/gtest.h>

#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/reduce.h"
#include "duet/ops/reshape.h"
#include "duet/tests/golden/golden.h"

namespace duet::golden {
namespace {

using namespace models;

// In float64 the formulas must agree to rounding; otherwise to what the precision allows.
struct Precision {
  DType dtype;
  bool bfloat16;
  double tolerance;
};
std::vector<Precision> precisions() {
  // Of bfloat16 an element has eight bits; the tolerance is relative to the largest.
  const Precision bfloat16{DType::f32, true, 0.1};
  if (testing::on_cuda()) return {{DType::f32, false, 2e-5}, bfloat16};
  return {{DType::f64, false, 1e-10}, {DType::f32, false, 1e-5}, bfloat16};
}

class GoldenModel : public ::testing::TestWithParam<Precision> {
 protected:
  DType dtype() const { return GetParam().dtype; }
  double tolerance() const { return GetParam().tolerance; }
  models::Run run() const { return {.bfloat16 = GetParam().bfloat16}; }
};

INSTANTIATE_TEST_SUITE_P(Precision, GoldenModel, ::testing::ValuesIn(precisions()), [](const auto& parameter) {
  return text(parameter.param.bfloat16 ? DType::bf16 : parameter.param.dtype);
});

void add_hidden(Outputs& outputs, const std::string& prefix, const std::vector<Variable>& hidden) {
  for (size_t i = 0; i < hidden.size(); ++i) outputs[prefix + "hidden." + std::to_string(i)] = hidden[i];
}

Variable mean_square(const Variable& x, const Tensor& target) {
  const Variable wide = widen(x), difference = ops::subtract(wide, Variable(target.to(wide.dtype())));
  return ops::mean(ops::multiply(difference, difference));
}

// Bare encoders have no loss of their own: a squared distance of both outputs to fixed targets.
template <class Model>
Outputs encoder_outputs(const Model& model, const Variable& last, const std::vector<Variable>& hidden,
                        const Fixture& fixture) {
  Outputs outputs{{"last_hidden_state", last}, {"pooler_output", model.pool(first_token(last))}};
  outputs["loss"] = ops::add(mean_square(last, fixture.input("target_last")),
                             mean_square(outputs["pooler_output"], fixture.input("target_pooled")));
  add_hidden(outputs, "", hidden);
  return outputs;
}

TEST_P(GoldenModel, Vit) {
  const Fixture fixture("vit_model");
  ParamStore store(0, dtype());
  const Vit vit({store, "vision_model"}, VitConfig::from_json(fixture.config()), true);
  compare(store, fixture, tolerance(), [&] {
    std::vector<Variable> hidden;
    const Variable last = vit(fixture.images(dtype()), run(), &hidden);
    return encoder_outputs(vit, last, hidden, fixture);
  });
}

TEST_P(GoldenModel, Bert) {
  const Fixture fixture("bert_model");
  ParamStore store(0, dtype());
  const Bert bert({store, "text_model"}, BertConfig::from_json(fixture.config()), true);
  compare(store, fixture, tolerance(), [&] {
    std::vector<Variable> hidden;
    const Variable last = bert(fixture.text(), run(), &hidden);
    return encoder_outputs(bert, last, hidden, fixture);
  });
}

// The classifier of any parts the fixture has; label smoothing as the fixture says.
void compare_classifier(const std::string& name, DType dtype, double tolerance, const Run& run) {
  const Fixture fixture(name);
  ParamStore store(0, dtype);
  const Classifier classifier({store, ""}, ClassifierConfig::from_json(fixture.config()));
  const bool both = classifier.vision() && classifier.text();
  const Variable images = classifier.vision() ? fixture.images(dtype) : Variable();
  const TextInput text = classifier.text() ? fixture.text() : TextInput();
  const ops::CrossEntropyOptions options{.label_smoothing = json_get(fixture.settings(), "label_smoothing", 0.0),
                                         .class_weights = {}};
  compare(store, fixture, tolerance, [&] {
    Outputs outputs{{"logits", classifier(images, text, run)}};
    outputs["loss"] = ops::cross_entropy(outputs["logits"], fixture.input("labels"), options);
    std::vector<Variable> vision_hidden, text_hidden;
    if (classifier.vision()) (*classifier.vision())(images, run, &vision_hidden);
    if (classifier.text()) (*classifier.text())(text, run, &text_hidden);
    add_hidden(outputs, both ? "vision." : "", vision_hidden);
    add_hidden(outputs, both ? "text." : "", text_hidden);
    return outputs;
  });
}

TEST_P(GoldenModel, VitForImageClassification) {
  compare_classifier("vit_classifier", dtype(), tolerance(), run());
}

TEST_P(GoldenModel, BertForSequenceClassification) {
  compare_classifier("bert_classifier", dtype(), tolerance(), run());
}

TEST_P(GoldenModel, MultimodalClassifier) {
  compare_classifier("multimodal", dtype(), tolerance(), run());
}

// Training computes logits at the masked positions only; the loss must still be the mean over labels != -100.
TEST_P(GoldenModel, BertForMaskedLm) {
  const Fixture fixture("bert_masked_lm");
  ParamStore store(0, dtype());
  const Bert bert({store, "text_model"}, BertConfig::from_json(fixture.config()), false);
  const MlmHead head({store, "cls.predictions"}, bert);
  const Tensor labels = fixture.input("labels").to(Device{});
  std::vector<int64_t> positions, originals;
  for (int64_t i = 0; i < labels.numel(); ++i) {
    if (labels.at(i) == -100) continue;
    positions.push_back(i);
    originals.push_back(labels.data<int64_t>()[i]);
  }
  const auto count = static_cast<int64_t>(positions.size());
  ASSERT_GT(count, 3);
  ASSERT_LT(count, labels.numel() / 2);
  compare(store, fixture, tolerance(), [&] {
    std::vector<Variable> hidden;
    const Variable last = bert(fixture.text(), run(), &hidden);
    const Variable flat = ops::reshape(last, {last.dim(0) * last.dim(1), last.dim(2)});
    const Variable logits = head(flat);
    const Variable masked = head(ops::gather_rows(flat, Tensor::from({count}, positions).to(testing::device())));
    Outputs outputs{{"logits", ops::reshape(logits, {last.dim(0), last.dim(1), logits.dim(1)})},
                    {"loss", ops::cross_entropy(masked, Tensor::from({count}, originals).to(testing::device()))}};
    add_hidden(outputs, "", hidden);
    return outputs;
  });
}

TEST_P(GoldenModel, VisionTextDualEncoder) {
  const Fixture fixture("dual_encoder");
  ParamStore store(0, dtype());
  const DualEncoder model({store, ""}, DualEncoderConfig::from_json(fixture.config()));
  compare(store, fixture, tolerance(), [&] {
    const Variable images = model.image_features(fixture.images(dtype()), run());
    const Variable texts = model.text_features(fixture.text(), run());
    return Outputs{{"image_embeds", images},
                   {"text_embeds", texts},
                   {"logits_per_text", model.logits_per_text(texts, images)},
                   {"loss", model.loss(texts, images)}};
  });
}

}  // namespace
}  // namespace duet::golden
