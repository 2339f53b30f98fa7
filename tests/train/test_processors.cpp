#include "duet/train/processors.h"

#include <gtest/gtest.h>

#include "duet/core/file.h"
#include "duet/tests/train/tiny_data.h"

namespace duet::train {
namespace {

InputConfig unusual_input() {
  InputConfig input;
  input.image_size = 48;
  input.fit = Fit::stretch;
  input.resample = Resample::bicubic;
  input.mean = {0.1f, 0.2f, 0.3f};
  input.deviation = {0.4f, 0.5f, 0.6f};
  return input;
}

void expect_same_images(const InputConfig& a, const InputConfig& b) {
  EXPECT_EQ(a.image_size, b.image_size);
  EXPECT_EQ(a.fit, b.fit);
  EXPECT_EQ(a.resample, b.resample);
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.deviation, b.deviation);
}

TEST(Processors, RoundTrip) {
  const TemporaryDirectory directory;
  Processors{tiny_tokenizer(), unusual_input()}.save(directory.path());
  const Processors loaded = Processors::load(directory.path());
  expect_same_images(loaded.input, unusual_input());
  EXPECT_TRUE(loaded.input.use_images && loaded.input.use_text);
  ASSERT_TRUE(loaded.tokenizer);
  EXPECT_EQ(loaded.tokenizer->encode("red flat").ids, tiny_tokenizer()->encode("red flat").ids);
}

TEST(Processors, OnlyThePartsInUseAreSaved) {
  const TemporaryDirectory directory;
  InputConfig input;
  input.use_text = false;
  input.fit = Fit::pad;
  Processors{tiny_tokenizer(), input}.save(directory.path());
  const Processors image_only = Processors::load(directory.path());
  EXPECT_TRUE(image_only.input.use_images);
  EXPECT_FALSE(image_only.input.use_text);
  EXPECT_FALSE(image_only.tokenizer);
  expect_same_images(image_only.input, input);

  const TemporaryDirectory other;
  input = {};
  input.use_images = false;
  Processors{tiny_tokenizer(), input}.save(other.path());
  const Processors text_only = Processors::load(other.path());
  EXPECT_FALSE(text_only.input.use_images);
  EXPECT_TRUE(text_only.input.use_text);
}

// As the preprocessor of google/vit-base-patch16-224, in the old and the new form of "size".
TEST(Processors, ReadsHuggingFaceFiles) {
  const TemporaryDirectory directory;
  const auto load = [&](const std::string& json) {
    write_file_atomically(directory / "preprocessor_config.json", json);
    return Processors::load(directory.path()).input;
  };
  const InputConfig old = load(R"({"size": 224, "image_mean": 0.5, "image_std": [0.5, 0.25, 1], "resample": 3})");
  EXPECT_EQ(old.image_size, 224);
  EXPECT_EQ(old.resample, Resample::bicubic);
  EXPECT_EQ(old.fit, Fit::stretch);
  EXPECT_EQ(old.mean, (std::array<float, 3>{0.5f, 0.5f, 0.5f}));
  EXPECT_EQ(old.deviation, (std::array<float, 3>{0.5f, 0.25f, 1}));
  const InputConfig now = load(R"({"size": {"height": 384, "width": 384}})");
  EXPECT_EQ(now.image_size, 384);
  EXPECT_EQ(now.resample, Resample::bilinear);
  const InputConfig plain = load(R"({"do_normalize": false, "image_mean": 0.5})");
  EXPECT_EQ(plain.mean, (std::array<float, 3>{0, 0, 0}));
  EXPECT_EQ(plain.deviation, (std::array<float, 3>{1, 1, 1}));

  EXPECT_CONTAINS(message_of([&] { load(R"({"resample": 1})"); }), "resample 1 is not supported");
  EXPECT_CONTAINS(message_of([&] { load(R"({"image_mean": [1, 2]})"); }), "image_mean must be a number or three");
  EXPECT_CONTAINS(message_of([&] { load(R"({"image_std": 0})"); }), "image_std must be positive");
  EXPECT_CONTAINS(message_of([&] { load(R"({"size": "big"})"); }), "size");
  EXPECT_CONTAINS(message_of([&] { load(R"({"size": {"height": 20, "width": 10}})"); }), "square");
  EXPECT_CONTAINS(message_of([&] { load(R"({"size": {"shortest_edge": 224}})"); }), "shortest_edge");
  EXPECT_CONTAINS(message_of([&] { load(R"({"size": 0})"); }), "size");
  EXPECT_CONTAINS(message_of([&] { load(R"({"do_rescale": false})"); }), "do_rescale false");
  EXPECT_CONTAINS(message_of([&] { load(R"({"do_center_crop": true})"); }), "do_center_crop");
  EXPECT_CONTAINS(message_of([&] { load(R"({"rescale_factor": 1})"); }), "rescale_factor");
}

}  // namespace
}  // namespace duet::train
