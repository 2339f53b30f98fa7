#include <gtest/gtest.h>

#include "duet/autograd/engine.h"
#include "duet/models/multimodal.h"
#include "duet/ops/cross_entropy.h"
#include "duet/tests/golden/golden.h"
#include "duet/train/optimizer.h"
#include "duet/train/schedule.h"

namespace duet::golden {
namespace {

using namespace models;

// Rows of a tensor by position.
template <class T>
Tensor take(const Tensor& tensor, std::span<const int64_t> positions) {
  std::vector<T> values;
  for (const int64_t p : positions) {
    const auto row = tensor.rows_view(p, p + 1).values<T>();
    values.insert(values.end(), row.begin(), row.end());
  }
  Shape shape = tensor.shape();
  shape.set(0, static_cast<int64_t>(positions.size()));
  return Tensor::from(shape, values);
}

// Trains the same small classifier on the same real drawings and titles, in the same order and from the same weights as
// PyTorch did; each step's loss must follow PyTorch's at the same precision.
void compare_losses(DType dtype, double tolerance) {
  const Fixture fixture("paired_run");
  ParamStore store(0, dtype);
  const Classifier model({store, ""}, ClassifierConfig::from_json(fixture.config()));
  load_weights(store, fixture);
  const Tensor pixels = fixture.input("pixels"), ids = fixture.input("input_ids"),
               mask = fixture.input("attention_mask"), labels = fixture.input("labels"), order = fixture.input("order");
  std::vector<double> normalised;
  for (const uint8_t v : pixels.values<uint8_t>()) normalised.push_back((v / 255.0 - 0.5) / 0.5);
  const Tensor images = Tensor::from(pixels.shape(), normalised);

  const Json& s = fixture.settings();
  train::Adam adam(store, {.learning_rate = s.at("learning_rate"),
                           .beta1 = s.at("beta1"),
                           .beta2 = s.at("beta2"),
                           .eps = s.at("eps"),
                           .weight_decay = s.at("weight_decay")});
  const train::Schedule schedule{train::Schedule::Kind::linear, s.at("warmup"), s.at("steps")};
  const Tensor expected = fixture.expected().load("training.losses." + text(dtype));
  ASSERT_EQ(expected.numel(), 50);
  for (int64_t step = 0; step < expected.numel(); ++step) {
    const auto rows = order.rows_view(step, step + 1).values<int64_t>();
    const TextInput text{take<int32_t>(ids, rows), {}, take<uint8_t>(mask, rows)};
    store.clear_gradients();
    const Variable logits = model(Variable(take<double>(images, rows).to(dtype)), text, {});
    const Variable loss = ops::cross_entropy(logits, take<int64_t>(labels, rows));
    const double value = loss.data().item();
    EXPECT_NEAR(value, expected.at(step), tolerance * expected.at(step)) << "step " << step;
    backward(loss);
    adam.step(schedule.at(step), {train::gradient_norm(store), s.at("clip")});
  }
}

TEST(PairedRun, FollowsPyTorchInFloat32) {
  compare_losses(DType::f32, 1e-4);
}

TEST(PairedRun, FollowsPyTorchInFloat64) {
  compare_losses(DType::f64, 1e-9);
}

}  // namespace
}  // namespace duet::golden
