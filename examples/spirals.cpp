// The smallest training program against the engine: a two-layer network learns to tell two spirals apart.
#include <cmath>
#include <cstdio>

#include "duet/autograd/engine.h"
#include "duet/models/param_store.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/linear.h"
#include "duet/train/optimizer.h"

using namespace duet;

int main() {
  constexpr int64_t n = 400, width = 64;
  std::vector<float> points;
  std::vector<int64_t> classes;
  for (int64_t i = 0; i < n; ++i) {
    const float radius = 0.2f + static_cast<float>(i) / n, turn = 6 * radius + (i % 2 ? 3.14159f : 0.0f);
    points.insert(points.end(), {radius * std::cos(turn), radius * std::sin(turn)});
    classes.push_back(i % 2);
  }
  const Variable x(Tensor::from({n, 2}, points));    // (N, 2)
  const Tensor labels = Tensor::from({n}, classes);  // (N)

  models::ParamStore store(/*seed=*/1);
  const auto layer = [&](const std::string& name, int64_t out, int64_t in) {
    return std::pair(store.create(name + ".weight", {out, in}, models::Init::normal(1.0 / std::sqrt(in))),
                     store.create(name + ".bias", {out}, models::Init::uniform(1)));
  };
  const auto [w1, b1] = layer("hidden", width, 2);
  const auto [w2, b2] = layer("second", width, width);
  const auto [w3, b3] = layer("head", 2, width);
  train::Adam optimizer(store, {.learning_rate = 1e-2});

  double loss = 0;
  for (int step = 0; step < 300; ++step) {
    Variable h = ops::linear(x, w1, b1, ops::Activation::gelu);
    h = ops::linear(h, w2, b2, ops::Activation::gelu);
    const Variable mean = ops::cross_entropy(ops::linear(h, w3, b3), labels);
    backward(mean);
    optimizer.step();
    store.clear_gradients();
    loss = mean.data().item();
    if (step % 50 == 0) std::printf("step %3d  loss %.4f\n", step, loss);
  }
  std::printf("last loss %.4f\n", loss);
  return loss < 0.05 ? 0 : 1;
}
