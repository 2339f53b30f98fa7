#include "duet/bench/ops/cases.h"
#include "duet/models/multimodal.h"
#include "duet/train/optimizer.h"
#include "duet/train/strategies.h"

namespace duet::bench {
namespace {

// Parameters with gradients.
using Store = std::shared_ptr<models::ParamStore>;

// Those of a preset's image+text classifier.
Store classifier(const char* size) {
  const models::DualEncoderConfig encoders = train::preset_size(size);
  models::ClassifierConfig config;
  config.vision = encoders.vision;
  config.text = encoders.text;
  config.labels = {"a", "b"};
  const auto store = std::make_shared<models::ParamStore>(0);
  const models::Classifier model({*store, ""}, config);
  return store;
}

// One large tensor: BERT-base's word embeddings.
Store words() {
  const auto store = std::make_shared<models::ParamStore>(0);
  store->create("words", {vocabulary, bert_base.width}, models::Init::normal(0.02));
  return store;
}

void add(std::vector<Case>& cases, const std::string& shape, const std::function<Store()>& make) {
  const auto with_gradients = [make] {
    const Store store = make();
    for (models::Parameter& p : store->parameters()) p.value.set_gradient(random(p.value.shape(), DType::f32).data());
    return store;
  };
  const auto any = [](const Store& store) { return store->parameters().front().value; };
  cases.push_back({"adam", shape,
                   [=](DType) {
                     const Store store = with_gradients();
                     const auto adam = std::make_shared<train::Adam>(*store, train::AdamConfig{});
                     return [=] {
                       adam->step();
                       return any(store);
                     };
                   },
                   true});
  cases.push_back({"gradient_norm", shape,
                   [=](DType) {
                     const Store store = with_gradients();
                     return [=] {
                       train::gradient_norm(*store);
                       return any(store);
                     };
                   },
                   true});
}

}  // namespace

void add_optimizer_cases(std::vector<Case>& cases) {
  for (const char* size : {"tiny", "mini"}) add(cases, label(size, "all", {}), [size] { return classifier(size); });
  add(cases, label("bert-base", "words", {vocabulary, bert_base.width}), words);
}

}  // namespace duet::bench
