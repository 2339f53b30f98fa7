#include "duet/models/weights.h"

#include <gtest/gtest.h>

#include <limits>

#include "duet/core/allocator.h"
#include "duet/core/file.h"
#include "duet/models/hub.h"
#include "duet/models/vit.h"
#include "duet/tests/models/small_models.h"
#include "duet/tests/temporary_directory.h"
#include "duet/tests/train/expect.h"

namespace duet::models {
namespace {

using duet::testing::TemporaryDirectory;
using train::message_of;

Tensor filled(double value) {
  return Tensor::full({2}, DType::f32, value);
}

class Shards : public ::testing::Test {
 protected:
  Shards() {
    save_safetensors(directory_ / "one.safetensors", {{"a", filled(1)}, {"b", filled(2)}});
    save_safetensors(directory_ / "two.safetensors", {{"c", filled(3)}});
  }
  std::string error_of(const std::string& index) {
    write_file_atomically(directory_ / "model.safetensors.index.json", index);
    return message_of([&] { Weights::open(directory_.path()); });
  }
  TemporaryDirectory directory_;
};

TEST_F(Shards, AreOneSetOfTensors) {
  write_file_atomically(directory_ / "model.safetensors.index.json",
                        R"({"metadata":{"total_size":24},"weight_map":{"a":"one.safetensors","b":"one.safetensors",)"
                        R"("c":"two.safetensors"}})");
  EXPECT_TRUE(Weights::exist(directory_.path()));
  const Weights weights = Weights::open(directory_.path());
  EXPECT_EQ(weights.names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(weights.file_of("c").load("c").at(0), 3);
  EXPECT_EQ(weights.files().size(), 2u);
  EXPECT_CONTAINS(message_of([&] { weights.file_of("d"); }), "no tensor d");
}

TEST_F(Shards, TheIndexMustAgreeWithItsFiles) {
  EXPECT_CONTAINS(error_of("{}"), "weight_map is missing");
  EXPECT_CONTAINS(error_of(R"({"weight_map":{}})"), "weight_map is missing or empty");
  EXPECT_CONTAINS(error_of(R"({"weight_map":{"a":7}})"), "must be a name within the directory");
  EXPECT_CONTAINS(error_of(R"({"weight_map":{"a":"../one.safetensors"}})"), "must be a name within the directory");
  EXPECT_CONTAINS(error_of(R"({"weight_map":{"a":"three.safetensors"}})"), "three.safetensors");
  EXPECT_CONTAINS(error_of(R"({"weight_map":{"a":"two.safetensors"}})"), "tensor a is not in two.safetensors");
  EXPECT_CONTAINS(error_of(R"({"weight_map":{"a":"one.safetensors","c":"one.safetensors"}})"),
                  "tensor c is not in one.safetensors");
  EXPECT_CONTAINS(error_of(R"({"weight_map":{"a":"one.safetensors","a":"two.safetensors"}})"), "occurs twice");
  save_safetensors(directory_ / "two.safetensors", {{"a", filled(3)}, {"c", filled(3)}});
  EXPECT_CONTAINS(error_of(R"({"weight_map":{"a":"one.safetensors","c":"two.safetensors"}})"), "tensor a is in ");
}

TEST_F(Shards, AModelLoadsFromThem) {
  const VitConfig config = small_vit();
  ParamStore store(1), other(2, DType::f32, false);
  const Vit vit({store, "vision_model"}, config, true), again({other, "vision_model"}, config, true);
  const std::string model = directory_ / "model";
  save_model_directory(model, store, config.to_json());
  const SafetensorsFile whole = SafetensorsFile::open(model + "/model.safetensors");
  std::vector<std::pair<std::string, Tensor>> parts[2];
  Json map = Json::object();
  for (const std::string& name : whole.names()) {
    const size_t shard = map.size() % 2;
    parts[shard].emplace_back(name, whole.load(name));
    map[name] = shard == 0 ? "x.safetensors" : "y.safetensors";
  }
  save_safetensors(model + "/x.safetensors", parts[0]);
  save_safetensors(model + "/y.safetensors", parts[1]);
  write_file_atomically(model + "/model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  std::filesystem::remove(model + "/model.safetensors");
  load_parameters(other, model, {.strictness = Strictness::exact});
  for (const Parameter& p : store.parameters())
    for (int64_t i = 0; i < p.value.data().numel(); ++i)
      ASSERT_EQ(p.value.data().at(i), other.at(p.name).data().at(i)) << p.name;
}

TEST(LoadOptions, StrictnessIsTheCallersChoice) {
  const TemporaryDirectory directory;
  VitConfig small = small_vit();
  small.num_hidden_layers = 1;
  VitConfig large = small;
  large.intermediate_size = 7;
  ParamStore store(1);
  const Vit vit({store, "vision_model"}, small, false);
  save_model_directory(directory / "small", store, small.to_json());

  ParamStore wider(2);
  const Vit mismatched({wider, "vision_model"}, large, false);
  const LoadReport report = load_parameters(wider, directory / "small", {.strictness = Strictness::report});
  ASSERT_EQ(report.mismatched.size(), 3u);
  EXPECT_EQ(report.mismatched[0].key, "encoder.layer.0.intermediate.dense.weight");
  EXPECT_EQ(report.mismatched[0].found, (Shape{10, 8}));
  EXPECT_EQ(report.mismatched[0].wanted, (Shape{7, 8}));
  EXPECT_EQ(report.loaded.size() + 3, wider.parameters().size());
  EXPECT_CONTAINS(message_of([&] { load_parameters(wider, directory / "small"); }), "the model wants (7, 8)");

  ParamStore pooled(3);
  const Vit with_pooler({pooled, "vision_model"}, small, true);
  EXPECT_EQ(load_parameters(pooled, directory / "small").missing.size(), 2u);
  EXPECT_CONTAINS(
      message_of([&] { load_parameters(pooled, directory / "small", {.strictness = Strictness::complete}); }),
      "weights are missing: vision_model.pooler.dense.weight, vision_model.pooler.dense.bias");
  save_model_directory(directory / "pooled", pooled, small.to_json());
  EXPECT_EQ(load_parameters(store, directory / "pooled", {.strictness = Strictness::complete}).unexpected.size(), 2u);
  EXPECT_CONTAINS(message_of([&] { load_parameters(store, directory / "pooled", {.strictness = Strictness::exact}); }),
                  "no place for: pooler.dense.bias, pooler.dense.weight");
}

TEST(LoadOptions, WeightsThatAreNoNumbersAreRefused) {
  const TemporaryDirectory directory;
  const VitConfig config = small_vit();
  ParamStore store(1);
  const Vit vit({store, "vision_model"}, config, false);
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
    store.at("vision_model.layernorm.bias").data().fill(bad);
    save_model_directory(directory / "bad", store, config.to_json());
    EXPECT_CONTAINS(message_of([&] { load_parameters(store, directory / "bad"); }),
                    "vision_model.layernorm.bias holds NaN or infinity");
  }
}

// What contradicts the config, or could be read in two ways, must not give plausible numbers.
TEST(LoadOptions, AContradictionIsAnErrorByDefault) {
  const TemporaryDirectory directory;
  const VitConfig two = small_vit();
  VitConfig one = two;
  one.num_hidden_layers = 1;
  ParamStore small(1), large(1);
  const Vit a({small, "vision_model"}, one, false), b({large, "vision_model"}, two, false);
  save_model_directory(directory / "one", small, one.to_json());
  save_model_directory(directory / "two", large, two.to_json());
  EXPECT_CONTAINS(message_of([&] { load_parameters(small, directory / "two"); }),
                  "encoder.layer.1.attention.attention.key.bias has no place in a model of this config");
  EXPECT_CONTAINS(message_of([&] { load_parameters(large, directory / "one"); }),
                  "weights are missing: vision_model.encoder.layer.1");
  EXPECT_GT(load_parameters(large, directory / "one", {.strictness = Strictness::report}).missing.size(), 5u);

  const SafetensorsFile file = SafetensorsFile::open(directory / "one/model.safetensors");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const std::string& name : file.names()) tensors.emplace_back(name, file.load(name));
  tensors.emplace_back("vit.layernorm.bias", Tensor::full({8}, DType::f32, 0));
  save_safetensors(directory / "one/model.safetensors", tensors);
  load_parameters(small, directory / "one");  // twice the same
  tensors.back().second.fill(3);
  save_safetensors(directory / "one/model.safetensors", tensors);
  EXPECT_CONTAINS(message_of([&] { load_parameters(small, directory / "one"); }), "are the same parameter and differ");
  tensors.pop_back();
  for (auto& [name, tensor] : tensors)
    if (name == "layernorm.bias") tensor = Tensor::zeros({8}, DType::i64);
  save_safetensors(directory / "one/model.safetensors", tensors);
  EXPECT_CONTAINS(message_of([&] { load_parameters(small, directory / "one"); }), "layernorm.bias has dtype I64");
}

TEST(Weights, OtherFormatsAreNamed) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "pytorch_model.bin", "x");
  EXPECT_CONTAINS(message_of([&] { Weights::open(directory.path()); }), "weights as pytorch_model.bin only");
}

TEST(EncoderConfigOf, ModelsOfOtherKindsAreRefusedByName) {
  const Json vit = VitConfig().to_json(), bert{{"model_type", "roberta"}};
  EXPECT_EQ(encoder_config(vit, true), vit);
  EXPECT_TRUE(encoder_config(vit, false).is_null());
  const auto error = [&](const Json& config) { return message_of([&] { encoder_config(config, false); }); };
  EXPECT_CONTAINS(error({{"model_type", "clip"}, {"text_config", bert}}), "model_type \"clip\" is not supported");
  EXPECT_CONTAINS(error({{"model_type", "vision-text-dual-encoder"}, {"text_config", bert}}),
                  "text_config of model_type \"roberta\" is not supported");
}

// From the mapped file straight into the parameters, also when query, key and value are three tensors there.
TEST(LoadOptions, WeightsAreNeverHeldTwice) {
  const TemporaryDirectory directory;
  VitConfig config;
  config.hidden_size = 64;
  config.num_attention_heads = 2;
  config.intermediate_size = 256;
  config.num_hidden_layers = 2;
  config.image_size = 32;
  ParamStore store(1), other(2, DType::f32, false);
  const Vit vit({store, "vision_model"}, config, true), again({other, "vision_model"}, config, true);
  save_model_directory(directory / "model", store, config.to_json());
  cpu_allocator().reset_peak();
  const int64_t before = cpu_allocator().stats().in_use_bytes;
  load_parameters(other, directory / "model", {.strictness = Strictness::exact});
  EXPECT_EQ(cpu_allocator().stats().peak_in_use_bytes, before);
}

// Values depend on seed and name only, so leaving the drawing until after a load changes nothing.
TEST(ParamStoreRest, DrawsWhatNothingLoaded) {
  const VitConfig config = small_vit();
  ParamStore now(5), later(5, DType::f32, false);
  const Vit a({now, "vision_model"}, config, true), b({later, "vision_model"}, config, true);
  later.initialise_rest();
  for (const Parameter& p : now.parameters())
    for (int64_t i = 0; i < p.value.data().numel(); ++i)
      ASSERT_EQ(p.value.data().at(i), later.at(p.name).data().at(i)) << p.name;
}

}  // namespace
}  // namespace duet::models
