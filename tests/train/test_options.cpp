#include "duet/train/options.h"

#include <gtest/gtest.h>

#include <limits>

#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

std::string refused(const Json& json) {
  return message_of([&] { TrainOptions().update(json); });
}

TEST(TrainOptions, RoundTripsEveryOption) {
  // Every value differs from its default.
  const Json changed{{"seed", std::numeric_limits<uint64_t>::max()},
                     {"epochs", 2.5},
                     {"steps", 7},
                     {"batch", 3},
                     {"accumulate", 2},
                     {"lr", 0.1},
                     {"head-lr", 0.2},
                     {"weight-decay", 0.3},
                     {"beta2", 0.98},
                     {"warmup", 12.0},
                     {"schedule", "cosine"},
                     {"clip", 0.5},
                     {"label-smoothing", 0.1},
                     {"class-weights", true},
                     {"freeze", {"a.*", "b"}},
                     {"augment", "basic"},
                     {"shuffle", false},
                     {"workers", 0},
                     {"save-every", 4},
                     {"keep", 5},
                     {"eval-every", 6},
                     {"patience", 7},
                     {"recompute", true},
                     {"mask-probability", 0.2},
                     {"dtype", "bfloat16"}};
  const Json defaults = TrainOptions().to_json();
  EXPECT_EQ(changed.size(), defaults.size());
  for (const auto& [key, value] : changed.items()) EXPECT_NE(defaults.at(key), value) << key;
  TrainOptions options;
  options.update(changed);
  EXPECT_EQ(options.to_json(), changed);
  EXPECT_EQ(options.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(options.freeze, (std::vector<std::string>{"a.*", "b"}));

  TrainOptions again;
  again.update(parse_json(options.to_json().dump(), "test"));
  EXPECT_EQ(again.to_json(), options.to_json());
}

TEST(TrainOptions, UpdateKeepsWhatIsAbsentOrNull) {
  TrainOptions options;
  options.batch = 5;
  options.update({{"lr", 1}, {"batch", nullptr}});
  EXPECT_EQ(options.lr, 1);
  EXPECT_EQ(options.batch, 5);
  EXPECT_EQ(options.epochs, TrainOptions().epochs);
}

TEST(TrainOptions, NamesUnknownKeys) {
  EXPECT_CONTAINS(refused({{"lr", 0.1}, {"learning-rate", 0.1}}), "unknown option \"learning-rate\"");
  EXPECT_CONTAINS(refused(Json::array({1})), "must be an object, got [1]");
}

TEST(TrainOptions, NamesWrongTypes) {
  EXPECT_CONTAINS(refused({{"batch", "32"}}), "\"batch\" has the wrong type");
  EXPECT_CONTAINS(refused({{"freeze", "a.*"}}), "\"freeze\" has the wrong type");
  EXPECT_CONTAINS(refused({{"shuffle", "yes"}}), "\"shuffle\" has the wrong type");
  EXPECT_CONTAINS(refused({{"batch", 2.5}}), "\"batch\" has the wrong type: 2.5");
  EXPECT_CONTAINS(refused({{"epochs", true}}), "\"epochs\" has the wrong type");
  EXPECT_CONTAINS(refused({{"workers", true}}), "\"workers\" has the wrong type: true");
  EXPECT_CONTAINS(refused({{"workers", "two"}}), "\"workers\" has the wrong type: \"two\"");
  EXPECT_CONTAINS(refused({{"workers", 1.5}}), "\"workers\" has the wrong type: 1.5");
  EXPECT_CONTAINS(refused({{"workers", int64_t{1} << 40}}), "\"workers\" has the wrong type: 1099511627776");
  EXPECT_CONTAINS(refused({{"seed", -1}}), "\"seed\" has the wrong type: -1");
}

TEST(TrainOptions, NamesImpossibleValues) {
  const std::vector<std::pair<const char*, Json>> bad{{"epochs", 0},
                                                      {"epochs", 1e7},
                                                      {"steps", -1},
                                                      {"batch", 0},
                                                      {"batch", -3},
                                                      {"accumulate", 0},
                                                      {"lr", -0.1},
                                                      {"lr", 100},
                                                      {"head-lr", -1},
                                                      {"weight-decay", -0.1},
                                                      {"beta2", 1},
                                                      {"warmup", -1},
                                                      {"warmup", 1e30},
                                                      {"clip", -1},
                                                      {"workers", -1},
                                                      {"workers", 257},
                                                      {"keep", 0},
                                                      {"label-smoothing", 1},
                                                      {"save-every", -1},
                                                      {"eval-every", -1},
                                                      {"patience", -1},
                                                      {"mask-probability", 0},
                                                      {"mask-probability", 1}};
  for (const auto& [key, value] : bad)
    EXPECT_CONTAINS(refused({{key, value}}), text("--", key, " ", value.get<double>()));
  EXPECT_CONTAINS(refused({{"schedule", "step"}}), "\"step\"");
  TrainOptions infinite;
  infinite.clip = std::numeric_limits<double>::infinity();
  EXPECT_CONTAINS(message_of([&] { infinite.validate(); }), "--clip inf: must be a finite number");
  TrainOptions only_steps;
  only_steps.update({{"epochs", 0}, {"steps", 1}});
  EXPECT_EQ(only_steps.steps, 1);
}

}  // namespace
}  // namespace duet::train
