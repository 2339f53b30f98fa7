#include "duet/tests/golden/golden.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "duet/autograd/engine.h"
#include "duet/core/parallel.h"
#include "duet/models/hub.h"
#include "duet/train/optimizer.h"
#include "duet/train/schedule.h"

namespace duet::golden {
namespace {

// The models are so small that several threads would spend their time waiting for each other.
class OneThread : public ::testing::Environment {
  void SetUp() override { set_threads(1); }
};
[[maybe_unused]] const ::testing::Environment* one_thread = ::testing::AddGlobalTestEnvironment(new OneThread);

}  // namespace

Fixture::Fixture(const std::string& name)
    : directory_(std::string(DUET_SOURCE_DIR) + "/tests/golden/fixtures/" + name),
      config_(models::read_model_config(directory_)),
      expected_(SafetensorsFile::open(directory_ + "/expected.safetensors")) {
  settings_ = parse_json(expected_.metadata().at("settings"), directory_);
}

models::TextInput Fixture::text() const {
  return {input("input_ids"), input("token_type_ids"), input("attention_mask").to(DType::u8)};
}

void expect_close(const Tensor& given, const Tensor& expected, double tolerance, const std::string& what,
                  double scale) {
  const Tensor actual = given.to(Device{});
  ASSERT_EQ(text(actual.shape()), text(expected.shape())) << what;
  double worst = 0, largest = 0;
  int64_t where = 0;
  for (int64_t i = 0; i < expected.numel(); ++i) {
    const double difference = std::abs(actual.at(i) - expected.at(i));
    ASSERT_TRUE(std::isfinite(difference)) << what << "[" << i << "] is " << actual.at(i);
    largest = std::max(largest, std::abs(expected.at(i)));
    if (difference > worst) {
      worst = difference;
      where = i;
    }
  }
  if (scale == 0) scale = largest;
  EXPECT_LE(worst, tolerance * scale) << what << "[" << where << "] is " << actual.at(where) << ", expected "
                                      << expected.at(where) << ", scale " << scale;
}

void load_weights(models::ParamStore& store, const Fixture& fixture) {
  const models::LoadReport report = models::load_parameters(store, fixture.directory());
  EXPECT_EQ(report.missing, std::vector<std::string>());
  EXPECT_EQ(report.unexpected, std::vector<std::string>());
  EXPECT_EQ(report.loaded.size(), store.parameters().size());
  store.to(testing::device());
}

namespace {

std::vector<std::string> names_with(const SafetensorsFile& file, const std::string& prefix) {
  std::vector<std::string> names;
  for (const std::string& name : file.names())
    if (name.starts_with(prefix)) names.push_back(name.substr(prefix.size()));
  return names;
}

double largest(const Tensor& tensor) {
  double result = 0;
  for (int64_t i = 0; i < tensor.numel(); ++i) result = std::max(result, std::abs(tensor.at(i)));
  return result;
}

void compare_gradients(const models::ParamStore& store, const Fixture& fixture, double tolerance) {
  std::set<std::string> compared;
  for (const models::Parameter& p : store.parameters()) {
    const std::vector<std::string> keys = models::hub_key(p.name, fixture.config()).keys;
    ASSERT_TRUE(p.value.gradient().defined()) << p.name;
    const Tensor& gradient = p.value.gradient();
    for (size_t i = 0; i < keys.size(); ++i) {
      ASSERT_TRUE(fixture.expected().contains("gradient." + keys[i])) << p.name << " -> " << keys[i];
      const Tensor expected = fixture.expected().load("gradient." + keys[i]);
      const auto count = static_cast<int64_t>(keys.size()), part = static_cast<int64_t>(i);
      const Tensor own = count == 1
                             ? gradient
                             : gradient.rows_view(part * gradient.dim(0) / count, (part + 1) * gradient.dim(0) / count);
      // Softmax does not see a constant added to all scores, so a key bias has no gradient but rounding noise: its
      // scale is that of the query bias beside it.
      double scale = 0;
      if (keys[i].ends_with("key.bias")) scale = largest(fixture.expected().load("gradient." + keys[0]));
      expect_close(own, expected, tolerance, "gradient of " + keys[i], scale);
      compared.insert(keys[i]);
    }
  }
  for (const std::string& name : names_with(fixture.expected(), "gradient."))
    EXPECT_TRUE(compared.contains(name)) << name;
}

void compare_training(models::ParamStore& store, const Fixture& fixture, double tolerance,
                      const std::function<Outputs()>& forward) {
  const Json& s = fixture.settings();
  const auto steps = s.at("steps").get<int64_t>();
  const Tensor losses = fixture.expected().load("training.losses"), norms = fixture.expected().load("training.norms");
  ASSERT_EQ(losses.numel(), steps + 1);
  train::Adam adam(store, {.learning_rate = s.at("learning_rate"),
                           .beta1 = s.at("beta1"),
                           .beta2 = s.at("beta2"),
                           .eps = s.at("eps"),
                           .weight_decay = s.at("weight_decay")});
  const train::Schedule schedule{train::Schedule::Kind::linear, s.at("warmup"), steps};
  std::vector<double> own_losses, own_norms;
  for (int64_t step = 0; step <= steps; ++step) {
    store.clear_gradients();
    const Variable loss = forward().at("loss");
    own_losses.push_back(loss.data().item());
    if (step == steps) break;  // the last loss only shows what the last step did
    backward(loss);
    const Tensor norm = train::gradient_norm(store);
    own_norms.push_back(norm.item());
    adam.step(schedule.at(step), {norm, s.at("clip")});
  }
  expect_close(Tensor::from(losses.shape(), own_losses), losses, tolerance, "losses during training");
  // Norms follow the weights' rounding errors at first order, losses near a minimum only at second.
  expect_close(Tensor::from(norms.shape(), own_norms), norms, 10 * tolerance, "gradient norms during training");
}

}  // namespace

void compare(models::ParamStore& store, const Fixture& fixture, double tolerance,
             const std::function<Outputs()>& forward) {
  load_weights(store, fixture);
  const Outputs outputs = forward();
  const std::vector<std::string> names = names_with(fixture.expected(), "output.");
  EXPECT_EQ(names.size(), outputs.size());
  for (const std::string& name : names) {
    ASSERT_TRUE(outputs.contains(name)) << name;
    expect_close(outputs.at(name).data(), fixture.expected().load("output." + name), tolerance, name);
  }
  backward(outputs.at("loss"));
  compare_gradients(store, fixture, tolerance);
  compare_training(store, fixture, tolerance, forward);
}

}  // namespace duet::golden
