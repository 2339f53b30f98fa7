#include "duet/train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

using models::Init;
using models::ParamStore;

// Values and gradients of the golden vectors (PyTorch 2, double precision).
const std::vector<double> golden_start{1, -2, 0.5};
const std::vector<std::vector<double>> golden_gradients{{0.1, -0.2, 0.3}, {0.2, 0.1, -0.1}, {0, 0.5, 0.25}};

void set_gradient(ParamStore& store, const std::string& name, const std::vector<double>& values) {
  Variable& v = store.at(name);
  v.set_gradient(Tensor::from(v.shape(), values).to(v.dtype()));
}

void set_value(ParamStore& store, const std::string& name, const std::vector<double>& values) {
  Variable& v = store.at(name);
  v.data().copy_from(Tensor::from(v.shape(), values).to(v.dtype()));
}

void expect_values(ParamStore& store, const std::string& name, const std::vector<double>& expected, double tolerance) {
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(store.at(name).data().at(static_cast<int64_t>(i)), expected[i], tolerance) << name << '[' << i << ']';
}

void run_golden(DType dtype, const AdamConfig& config, const std::vector<double>& after_one,
                const std::vector<double>& after_three, double tolerance) {
  ParamStore store(0, dtype);
  store.create("theta", {3}, Init::constant(0));
  set_value(store, "theta", golden_start);
  Adam adam(store, config, [](const models::Parameter&) { return ParameterGroup{1, true}; });
  for (size_t i = 0; i < golden_gradients.size(); ++i) {
    set_gradient(store, "theta", golden_gradients[i]);
    adam.step();
    if (i == 0) expect_values(store, "theta", after_one, tolerance);
  }
  expect_values(store, "theta", after_three, tolerance);
  EXPECT_EQ(adam.steps(), 3);
}

TEST(Adam, GoldenDecoupledDecay) {
  const std::vector<double> one{0.989900001000, -1.989800000500, 0.489950000333};
  const std::vector<double> three{0.972590291977, -1.991731506311, 0.479460148058};
  run_golden(DType::f64, {.learning_rate = 1e-2}, one, three, 1e-12);
  run_golden(DType::f32, {.learning_rate = 1e-2}, one, three, 2e-7);
}

TEST(Adam, GoldenDecayInTheGradient) {
  const std::vector<double> one{0.990000000500, -1.990000000250, 0.490000000286};
  const std::vector<double> three{0.971018478054, -1.980314735609, 0.477039355818};
  const AdamConfig config{.learning_rate = 1e-2, .weight_decay = 0.1, .decoupled = false};
  run_golden(DType::f64, config, one, three, 1e-12);
  run_golden(DType::f32, config, one, three, 2e-7);
}

// Single precision must not lose more than its own rounding: 1 - 0.999f would cost 5e-5 of the second moment.
TEST(Adam, SecondMomentInFloatIsAsPreciseAsFloat) {
  ParamStore store(0);
  store.create("w", {1}, Init::constant(0));
  Adam adam(store, {});
  set_gradient(store, "w", {1});
  adam.step();
  for (const auto& [name, tensor] : adam.state())
    EXPECT_NEAR(tensor.at(0) / (name.starts_with("exp_avg_sq") ? 0.001 : 0.1), 1, 3e-7) << name;
}

TEST(Adam, BiasesAndNormsDoNotDecay) {
  ParamStore store(0, DType::f64);
  store.create("weight", {2, 1}, Init::constant(1));
  store.create("bias", {2}, Init::constant(1));
  store.create("logit_scale", {}, Init::constant(1));
  Adam adam(store, {.learning_rate = 0.1, .weight_decay = 0.5});
  for (const auto& p : store.parameters()) set_gradient(store, p.name, std::vector<double>(p.value.data().numel(), 0));
  adam.step();
  expect_values(store, "weight", {0.95, 0.95}, 1e-15);
  expect_values(store, "bias", {1, 1}, 0);
  expect_values(store, "logit_scale", {1}, 0);
}

TEST(Adam, GroupScalesLearningRateAndDecay) {
  ParamStore store(0, DType::f64);
  store.create("encoder", {1, 1}, Init::constant(1));
  store.create("head", {1, 1}, Init::constant(1));
  Adam adam(store, {.learning_rate = 0.01, .weight_decay = 0.5}, [](const models::Parameter& p) {
    ParameterGroup group = default_group(p);
    if (p.name == "head") group.learning_rate_scale = 10;
    return group;
  });
  set_gradient(store, "encoder", {3});
  set_gradient(store, "head", {3});
  adam.step(0.5);
  // The first step moves by the rate times the gradient's sign, after decaying by rate times decay.
  expect_values(store, "encoder", {1 - 0.005 * 0.5 - 0.005}, 1e-9);
  expect_values(store, "head", {1 - 0.05 * 0.5 - 0.05}, 1e-9);
}

TEST(Adam, LeavesFrozenParametersAlone) {
  ParamStore store(0, DType::f64);
  store.create("vision_model.a", {2, 2}, Init::constant(1));
  store.create("vision_model.b", {2}, Init::constant(1));
  store.create("head", {2}, Init::constant(1));
  store.freeze("vision_model.*");
  Adam adam(store, {});
  ASSERT_EQ(adam.state().size(), 2u);
  EXPECT_EQ(adam.state()[0].first, "exp_avg.head");
  set_gradient(store, "head", {1, 1});
  adam.step();
  expect_values(store, "vision_model.a", {1, 1, 1, 1}, 0);
  EXPECT_NE(store.at("head").data().at(0), 1);
  store.freeze("*");
  EXPECT_CONTAINS(message_of([&] { Adam(store, {}); }), "every parameter is frozen");
  EXPECT_CONTAINS(message_of([&] { store.freeze("typo.*"); }), "\"typo.*\"");
}

TEST(Adam, NamesTheParameterWithoutGradient) {
  ParamStore store(0);
  store.create("used", {1}, Init::constant(1));
  store.create("layer.3.forgotten", {1}, Init::constant(1));
  Adam adam(store, {});
  set_gradient(store, "used", {1});
  EXPECT_CONTAINS(message_of([&] { adam.step(); }), "layer.3.forgotten received no gradient");
  EXPECT_EQ(store.at("used").data().at(0), 1);  // nothing was updated
  EXPECT_EQ(adam.steps(), 0);
}

TEST(Adam, RefusesImpossibleSettings) {
  ParamStore store(0);
  store.create("w", {1}, Init::constant(1));
  EXPECT_CONTAINS(message_of([&] { Adam(store, {.learning_rate = -1}); }), "learning rate -1");
  EXPECT_CONTAINS(message_of([&] { Adam(store, {.beta2 = 1}); }), "betas 0.9 1");
}

TEST(Adam, GoesOnFromSavedStateToTheBit) {
  const auto gradient = [](int step) { return std::vector<double>{0.3 * step, -0.1, 1.0 / (step + 1)}; };
  const auto run = [&](int first, int last, ParamStore& store, Adam& adam) {
    for (int i = first; i < last; ++i) {
      set_gradient(store, "w", gradient(i));
      adam.step();
    }
  };
  ParamStore whole(0), halves(0);
  for (ParamStore* s : {&whole, &halves}) s->create("w", {3}, Init::normal(1));
  Adam adam(whole, {}), first(halves, {});
  run(0, 6, whole, adam);
  run(0, 3, halves, first);
  Adam second(halves, {});
  for (size_t i = 0; i < 2; ++i) second.state()[i].second.copy_from(first.state()[i].second);
  second.set_steps(first.steps());
  run(3, 6, halves, second);
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(whole.at("w").data().at(i), halves.at("w").data().at(i));
}

// The gradients as an update with clipping takes them: without momentum they are its first moment.
std::vector<double> clipped(ParamStore& store, double max_norm) {
  Adam adam(store, {.beta1 = 0});
  adam.step(1, {gradient_norm(store), max_norm});
  std::vector<double> result;
  for (const auto& [name, tensor] : adam.state())
    if (name.starts_with("exp_avg."))
      for (int64_t i = 0; i < tensor.numel(); ++i) result.push_back(tensor.at(i));
  return result;
}

TEST(Clipping, ScalesDownToTheMaximum) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    ParamStore store(0, dtype);
    store.create("a", {2}, Init::constant(0));
    store.create("b", {1}, Init::constant(0));
    set_gradient(store, "a", {3, 4});
    set_gradient(store, "b", {12});
    EXPECT_NEAR(gradient_norm(store).item(), 13, 1e-12);
    const double coefficient = 0.0769230710;
    const std::vector<double> got = clipped(store, 1);
    EXPECT_NEAR(got[0], 3 * coefficient, 1e-7);
    EXPECT_NEAR(got[1], 4 * coefficient, 1e-7);
    EXPECT_NEAR(got[2], 12 * coefficient, 1e-6);
    EXPECT_EQ(store.at("a").gradient().at(0), 3);  // the gradients themselves stay
  }
}

TEST(Clipping, LeavesSmallOffAndNonFiniteAlone) {
  ParamStore store(0);
  store.create("a", {2}, Init::constant(0));
  EXPECT_EQ(gradient_norm(store).item(), 0);  // no gradients at all
  set_gradient(store, "a", {3, 4});
  for (const double max_norm : {100.0, 0.0}) EXPECT_EQ(clipped(store, max_norm), (std::vector<double>{3, 4}));
  set_gradient(store, "a", {3, std::nan("")});
  EXPECT_TRUE(std::isnan(gradient_norm(store).item()));
  EXPECT_EQ(clipped(store, 1)[0], 3);
  set_gradient(store, "a", {3, INFINITY});
  EXPECT_EQ(clipped(store, 1)[0], 3);
}

TEST(Clipping, RefusesWhatItCannotUse) {
  ParamStore store(0);
  store.create("a", {2}, Init::constant(0));
  set_gradient(store, "a", {3, 4});
  Adam adam(store, {});
  EXPECT_CONTAINS(message_of([&] { adam.step(1, {gradient_norm(store), -1}); }), "must not be negative, got -1");
  EXPECT_CONTAINS(message_of([&] { adam.step(1, {{}, 1}); }), "clipping needs the gradients' norm");
  EXPECT_CONTAINS(message_of([&] { adam.step(1, {Tensor::zeros({2}, DType::f64), 1}); }), "one float64 on cpu");
}

// Numbers of all places count, each once: at the ends of chunks and of the vectors that these are summed in.
TEST(Clipping, SumsEveryElement) {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t n : {int64_t{1}, int64_t{37}, int64_t{16384 + 3 * 32 + 5}}) {
      ParamStore store(0, dtype);
      store.create("a", {n}, Init::constant(0));
      std::vector<double> gradient(static_cast<size_t>(n));
      double squares = 0;
      for (size_t i = 0; i < gradient.size(); ++i) {
        gradient[i] = static_cast<double>(i % 911) + 1;
        squares += gradient[i] * gradient[i];
      }
      set_gradient(store, "a", gradient);
      EXPECT_EQ(gradient_norm(store).item(), std::sqrt(squares)) << dtype << ' ' << n;
      gradient[gradient.size() / 2] = std::numeric_limits<double>::quiet_NaN();
      set_gradient(store, "a", gradient);
      EXPECT_TRUE(std::isnan(gradient_norm(store).item())) << dtype << ' ' << n;
    }
}

// Many chunks, and squares that overflow float.
TEST(Clipping, SumsLargeTensorsInDouble) {
  ParamStore store(0);
  store.create("a", {100'000}, Init::constant(0));
  set_gradient(store, "a", std::vector<double>(100'000, 1e25));
  EXPECT_NEAR(gradient_norm(store).item() / (1e25 * std::sqrt(100'000.0)), 1, 1e-6);
}

}  // namespace
}  // namespace duet::train
