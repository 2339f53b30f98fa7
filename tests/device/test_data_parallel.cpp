#include <cmath>

#include "duet/autograd/engine.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/linear.h"
#include "duet/tests/device.h"
#include "duet/tests/device/ranks.h"
#include "duet/train/optimizer.h"

// Training on several ranks, put together by hand: each has a share of the batch, and the gradients are averaged.
namespace duet::train {
namespace {

using testing::device;
using testing::expect_good;
using testing::on_ranks;

struct Outcome {
  std::vector<Tensor> gradients;  // of the first step
  std::vector<Tensor> weights;    // after the last
};

Outcome train(Communicator& all, int steps) {
  constexpr int64_t samples = 24, width = 40, classes = 5;
  const int64_t share = samples / all.size(), begin = all.rank() * share;
  std::vector<float> points;
  std::vector<int64_t> labels;
  for (int64_t i = begin; i < begin + share; ++i) {
    for (int64_t j = 0; j < 16; ++j) points.push_back(std::sin(static_cast<float>(i * 16 + j)));
    labels.push_back(i % classes);
  }
  // Seeds differ: what the ranks begin with comes from rank 0.
  models::ParamStore store(1 + static_cast<uint64_t>(all.rank()));
  store.create("w1", {width, 16}, models::Init::normal(0.3));
  store.create("b1", {width}, models::Init::uniform(1));
  store.create("w2", {classes, width}, models::Init::normal(0.3));
  store.create("b2", {classes}, models::Init::uniform(1));
  store.to(all.device());
  std::vector<Tensor> weights;
  for (models::Parameter& parameter : store.parameters()) weights.push_back(parameter.value.data());
  all.broadcast(weights, 0);
  Adam optimizer(store, {.learning_rate = 1e-2});
  const Variable x(Tensor::from({share, 16}, points).to(all.device()));
  const Tensor y = Tensor::from({share}, labels).to(all.device());
  Outcome outcome;
  for (int step = 0; step < steps; ++step) {
    const Variable hidden = ops::linear(x, store.at("w1"), store.at("b1"), ops::Activation::gelu);
    const Variable loss = ops::cross_entropy(ops::linear(hidden, store.at("w2"), store.at("b2")), y);
    backward(loss, Tensor::full({}, DType::f32, 1.0 / all.size(), all.device()));
    std::vector<Tensor> gradients;
    for (models::Parameter& parameter : store.parameters()) gradients.push_back(parameter.value.gradient());
    all.all_reduce(gradients);
    if (step == 0)
      for (const Tensor& gradient : gradients) outcome.gradients.push_back(gradient.to(Device{}));
    optimizer.step();
    store.clear_gradients();
  }
  for (const Tensor& weight : weights) outcome.weights.push_back(weight.to(Device{}));
  return outcome;
}

void expect_near(const std::vector<Tensor>& got, const std::vector<Tensor>& want, double tolerance) {
  for (size_t i = 0; i < want.size(); ++i)
    for (int64_t j = 0; j < want[i].numel(); ++j)
      ASSERT_NEAR(got[i].at(j), want[i].at(j), tolerance) << "tensor " << i << ", element " << j;
}

TEST(DeviceDataParallel, TwoHalvesAreTheWhole) {
  NEEDS_DEVICES(2);
  const Outcome whole = train(*alone(device()), 2);
  std::vector<Outcome> outcomes(2);
  expect_good(on_ranks(2, [&](Communicator& all) { outcomes[static_cast<size_t>(all.rank())] = train(all, 2); }));
  expect_near(outcomes[0].gradients, whole.gradients, 1e-6);
  expect_near(outcomes[0].weights, whole.weights, 1e-4);
  for (size_t i = 0; i < whole.weights.size(); ++i) {
    const auto first = outcomes[0].weights[i].values<float>(), second = outcomes[1].weights[i].values<float>();
    EXPECT_TRUE(std::equal(first.begin(), first.end(), second.begin())) << "weights " << i << " differ between ranks";
  }
}

}  // namespace
}  // namespace duet::train
