#include <gtest/gtest.h>

#include <cmath>

#include "duet/core/file.h"
#include "duet/models/hub.h"
#include "duet/models/layouts.h"
#include "duet/models/multimodal.h"
#include "duet/tests/temporary_directory.h"
#include "duet/tests/train/expect.h"

// Vision transformers as torchvision and timm name their tensors, against those libraries' own outputs.
namespace duet::golden {
namespace {

using namespace models;
using duet::testing::TemporaryDirectory;
using train::message_of;

std::string fixture(const std::string& name) {
  return std::string(DUET_SOURCE_DIR) + "/tests/golden/fixtures/" + name;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  check(a.shape() == b.shape(), "test", "shapes differ: ", a, " and ", b);
  double largest = 0;
  for (int64_t i = 0; i < a.numel(); ++i) largest = std::max(largest, std::abs(a.at(i) - b.at(i)));
  return largest;
}

class LayoutFixture : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Layout, LayoutFixture, ::testing::Values("layout_torchvision", "layout_timm"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST_P(LayoutFixture, GivesTheLibrarysOutputs) {
  const std::string directory = fixture(GetParam());
  const ClassifierConfig config = ClassifierConfig::from_json(read_model_config(directory));
  EXPECT_EQ(config.labels.size(), 5u);
  EXPECT_EQ(config.vision->image_size, 12);
  ParamStore store(0, DType::f64, false);
  const Classifier classifier({store, ""}, config);
  const LoadReport report = load_parameters(store, directory, {.strictness = Strictness::exact});
  EXPECT_EQ(report.loaded.size(), store.parameters().size());
  const SafetensorsFile expected = SafetensorsFile::open(directory + "/expected.safetensors");
  const Variable images(expected.load("pixel_values"));
  EXPECT_LT(largest_difference((*classifier.vision())(images, {}).data(), expected.load("last_hidden_state")), 1e-12);
  EXPECT_LT(largest_difference(classifier(images, {}, {}).data(), expected.load("logits")), 1e-12);

  // Saved again it is a Hugging Face directory with the same results.
  const TemporaryDirectory temporary;
  save_model_directory(temporary / "saved", store, config.to_json());
  ParamStore other(1, DType::f64);
  const Classifier again({other, ""}, ClassifierConfig::from_json(read_model_config(temporary / "saved")));
  load_parameters(other, temporary / "saved", {.strictness = Strictness::exact});
  EXPECT_EQ(largest_difference(again(images, {}, {}).data(), classifier(images, {}, {}).data()), 0);
}

TEST_P(LayoutFixture, RefusesVariantsByTheTensor) {
  const TemporaryDirectory temporary;
  const SafetensorsFile file = SafetensorsFile::open(fixture(GetParam()) + "/model.safetensors");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const std::string& name : file.names()) tensors.emplace_back(name, file.load(name));
  tensors.emplace_back("fc_norm.weight", Tensor::zeros({16}, DType::f32));
  save_safetensors(temporary / "model.safetensors", tensors);
  EXPECT_CONTAINS(message_of([&] { read_model_config(temporary.path()); }), "fc_norm.weight belongs to a variant");
}

TEST(Layout, TheNumberOfHeadsFollowsFromTheWidthOfPublishedModels) {
  const TemporaryDirectory temporary;
  const auto config_of = [&](int64_t width) {
    std::vector<std::pair<std::string, Tensor>> tensors{
        {"pos_embed", Tensor::zeros({1, 197, width}, DType::f32)},
        {"patch_embed.proj.weight", Tensor::zeros({width, 3, 16, 16}, DType::f32)},
        {"blocks.0.norm1.weight", Tensor::zeros({width}, DType::f32)},
        {"blocks.0.mlp.fc1.weight", Tensor::zeros({8, width}, DType::f32)}};
    save_safetensors(temporary / "model.safetensors", tensors);
    return VitConfig::from_json(read_model_config(temporary.path()));
  };
  EXPECT_EQ(config_of(192).num_attention_heads, 3);
  EXPECT_EQ(config_of(1280).num_attention_heads, 16);
  EXPECT_EQ(config_of(192).num_hidden_layers, 1);
  EXPECT_EQ(config_of(192).image_size, 224);
  EXPECT_EQ(config_of(192).layer_norm_eps, 1e-6);
  EXPECT_FALSE(config_of(192).qkv_bias);
  EXPECT_CONTAINS(message_of([&] { config_of(100); }), "add config.json with num_attention_heads");
}

TEST(Positions, AreThoseOfTransformersAndTimm) {
  const SafetensorsFile file = SafetensorsFile::open(fixture("layout_positions") + "/expected.safetensors");
  size_t compared = 0;
  for (const std::string& name : file.names()) {
    if (!name.ends_with(".table")) continue;
    const std::string key = name.substr(0, name.size() - 6);
    int side = 0, rows = 0, columns = 0;
    ASSERT_EQ(std::sscanf(key.c_str(), "%d.%d.%d", &side, &rows, &columns), 3);
    const Tensor table = file.load(name);
    EXPECT_LT(largest_difference(interpolate_positions(table, rows, columns, Interpolation::hugging_face),
                                 file.load(key + ".hugging_face")),
              1e-12)
        << key;
    EXPECT_LT(
        largest_difference(interpolate_positions(table, rows, columns, Interpolation::timm), file.load(key + ".timm")),
        1e-6)
        << key;
    ++compared;
  }
  EXPECT_EQ(compared, 4u);
}

TEST(Positions, GridOfSquares) {
  std::vector<double> values{0};
  for (int i = 0; i < 9; ++i) values.push_back(i * i);
  const Tensor resized =
      interpolate_positions(Tensor::from<double>({1, 10, 1}, values), 4, 5, Interpolation::hugging_face);
  const double expected[] = {-0.70065234375, -0.6100859375, -0.07666015625, 1.536765625, 2.73933203125};
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(resized.at(1 + i), expected[i], 1e-12);
}

TEST(Positions, SameGridIsACopyAndOddTablesAreRefused) {
  const Tensor table = Tensor::full({1, 5, 2}, DType::f32, 3);
  EXPECT_EQ(largest_difference(interpolate_positions(table, 2, 2, Interpolation::timm), table), 0);
  EXPECT_CONTAINS(message_of([] {
                    interpolate_positions(Tensor::zeros({1, 4, 2}, DType::f32), 2, 2, Interpolation::timm);
                  }),
                  "no square grid");
}

// A model for larger images takes the positions of one for smaller images only when asked to.
TEST(Positions, AreFittedWhileLoading) {
  const std::string directory = fixture("layout_timm");
  ClassifierConfig config = ClassifierConfig::from_json(read_model_config(directory));
  config.vision->image_size = 20;
  ParamStore store(0);
  const Classifier classifier({store, ""}, config);
  EXPECT_CONTAINS(message_of([&] { load_parameters(store, directory); }), "pos_embed is (1, 10, 16)");
  load_parameters(store, directory, {.strictness = Strictness::exact, .positions = Interpolation::hugging_face});
  const Tensor table = SafetensorsFile::open(directory + "/model.safetensors").load("pos_embed");
  EXPECT_EQ(largest_difference(store.at("vision_model.embeddings.position_embeddings").data(),
                               interpolate_positions(table, 5, 5, Interpolation::hugging_face)),
            0);
}

}  // namespace
}  // namespace duet::golden
