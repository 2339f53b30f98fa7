#include "duet/models/param_store.h"

#include <gtest/gtest.h>

#include <cmath>

#include "duet/core/parallel.h"
#include "duet/models/bert.h"
#include "duet/tests/train/expect.h"
#include "duet/tests/values.h"

namespace duet::models {
namespace {

using testing::values;
using train::message_of;

TEST(ParamStore, ReachesParametersByPathInCreationOrder) {
  ParamStore store(0, DType::f64);
  const ParamScope root(store, "");
  (root / "vision" / "norm").create("weight", {3}, Init::constant(1.5));
  (root / "vision").create("token", {1, 2}, Init::constant(0));
  root.create("scale", {}, Init::constant(2.5));
  ASSERT_EQ(store.parameters().size(), 3u);
  EXPECT_EQ(store.parameters()[0].name, "vision.norm.weight");
  EXPECT_EQ(store.parameters()[1].name, "vision.token");
  EXPECT_EQ(store.count(), 6);
  EXPECT_TRUE(store.contains("vision.token"));
  EXPECT_FALSE(store.contains("vision"));
  EXPECT_EQ(store.at("vision.norm.weight").data().at(2), 1.5);
  EXPECT_EQ(store.at("scale").data().item(), 2.5);
  EXPECT_EQ(store.at("scale").dtype(), DType::f64);
  EXPECT_TRUE(store.at("scale").requires_grad());
}

TEST(ParamStore, RefusesDuplicateAndUnknownNames) {
  ParamStore store(0);
  const ParamScope scope(store, "text");
  scope.create("bias", {2}, Init::constant(0));
  EXPECT_CONTAINS(message_of([&] { scope.create("bias", {3}, Init::constant(0)); }), "text.bias is created twice");
  EXPECT_CONTAINS(message_of([&] { store.at("text.weight"); }), "no parameter text.weight");
  EXPECT_EQ(store.count(), 2);
}

TEST(ParamStore, FreezesByPattern) {
  ParamStore store(0);
  for (const char* name :
       {"vision.layer.0.weight", "vision.layer.10.weight", "vision.norm.weight", "text.layer.0.bias"})
    store.create(name, {1}, Init::constant(0));
  store.freeze("vision.layer.?.*");
  EXPECT_FALSE(store.at("vision.layer.0.weight").requires_grad());
  EXPECT_TRUE(store.at("vision.layer.10.weight").requires_grad());
  store.freeze("*.weight");
  EXPECT_FALSE(store.at("vision.norm.weight").requires_grad());
  EXPECT_TRUE(store.at("text.layer.0.bias").requires_grad());
  const std::string message = message_of([&] { store.freeze("audio.*"); });
  EXPECT_CONTAINS(message, "audio.*");
  EXPECT_CONTAINS(message, "vision.layer.0.weight");
}

TEST(ParamStore, MatchesShellPatterns) {
  EXPECT_TRUE(matches_pattern("a.b.c", "a.*"));
  EXPECT_TRUE(matches_pattern("a.b.c", "*"));
  EXPECT_TRUE(matches_pattern("a.b.c", "*.?.*"));
  EXPECT_TRUE(matches_pattern("", "*"));
  EXPECT_TRUE(matches_pattern("abab", "*ab"));
  EXPECT_FALSE(matches_pattern("a.b.c", "a.b"));
  EXPECT_FALSE(matches_pattern("a", "??"));
  EXPECT_FALSE(matches_pattern("", "?"));
}

double deviation(const Tensor& t) {
  double sum = 0, squares = 0;
  const auto n = static_cast<double>(t.numel());
  for (int64_t i = 0; i < t.numel(); ++i) {
    sum += t.at(i);
    squares += t.at(i) * t.at(i);
  }
  EXPECT_NEAR(sum / n, 0, 4 * std::sqrt(squares / n / n));
  return std::sqrt(squares / n);
}

TEST(ParamStore, InitialValuesHaveTheAskedDistribution) {
  ParamStore store(7);
  const Tensor normal = store.create("normal", {300, 100}, Init::normal(0.02)).data();
  EXPECT_NEAR(deviation(normal), 0.02, 0.0004);
  const Tensor uniform = store.create("uniform", {300, 100}, Init::uniform(0.3)).data();
  EXPECT_NEAR(deviation(uniform), 0.3 / std::sqrt(3), 0.003);
  double outermost = 0;
  for (const double v : values(uniform)) outermost = std::max(outermost, std::abs(v));
  EXPECT_LE(outermost, 0.3);
  EXPECT_GT(outermost, 0.299);
}

TEST(ParamStore, InitialValuesDependOnSeedAndNameOnly) {
  ParamStore plain(1), crowded(1), other(2);
  crowded.create("x", {5}, Init::normal(1));
  const auto a = values(plain.create("w", {50, 400}, Init::normal(1)).data());
  const int before = threads();
  set_threads(3);
  const auto b = values(crowded.create("w", {50, 400}, Init::normal(1)).data());
  set_threads(before);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, values(other.create("w", {50, 400}, Init::normal(1)).data()));
  EXPECT_NE(a, values(plain.create("v", {50, 400}, Init::normal(1)).data()));
}

TEST(ParamStore, ModelsStartAsBertDoes) {
  BertConfig config;
  config.vocab_size = 2000;
  config.hidden_size = config.intermediate_size = 48;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 4;
  config.pad_token_id = 3;
  config.initializer_range = 0.05;
  ParamStore store(3, DType::f64);
  const Bert bert({store, ""}, config, true);
  const Tensor words = store.at("embeddings.word_embeddings.weight").data();
  EXPECT_NEAR(deviation(words), 0.05, 0.001);
  EXPECT_EQ(values(words.rows_view(3, 4)), std::vector<double>(48, 0.0));
  EXPECT_NE(values(words.rows_view(2, 3)), std::vector<double>(48, 0.0));
  for (const Parameter& p : store.parameters()) {
    if (p.value.rank() >= 2) continue;
    const double expected = p.name.ends_with("LayerNorm.weight") ? 1 : 0;
    EXPECT_EQ(values(p.value.data()), std::vector<double>(static_cast<size_t>(p.value.data().numel()), expected))
        << p.name;
  }
}

}  // namespace
}  // namespace duet::models
