#include "duet/train/image_processor.h"
#include "duet/train/processors.h"

#include <gtest/gtest.h>

#include "duet/core/file.h"
#include "duet/tests/train/tiny_data.h"

namespace duet::train {
namespace {

InputConfig unusual_input() {
  InputConfig input;
  input.image_size = 48;
  input.steps.fit = Fit::stretch;
  input.steps.resample = Resample::bicubic;
  input.steps.mean = {0.1f, 0.2f, 0.3f};
  input.steps.deviation = {0.4f, 0.5f, 0.6f};
  return input;
}

void expect_same_images(const InputConfig& a, const InputConfig& b) {
  EXPECT_EQ(a.image_size, b.image_size);
  EXPECT_EQ(a.steps.fit, b.steps.fit);
  EXPECT_EQ(a.steps.resample, b.steps.resample);
  EXPECT_EQ(a.steps.mean, b.steps.mean);
  EXPECT_EQ(a.steps.deviation, b.steps.deviation);
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
  input.steps.fit = Fit::pad;
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

TEST(Processors, ClipStyleConfigurationsAreKept) {
  const TemporaryDirectory directory, other;
  const auto path = [](const TemporaryDirectory& d) { return d / "preprocessor_config.json"; };
  write_file_atomically(path(directory), R"({"image_processor_type": "CLIPImageProcessor", "size": 40,
                                             "crop_size": 32, "rescale_factor": 0.01})");
  const Processors loaded = Processors::load(directory.path());
  EXPECT_EQ(loaded.input.image_size, 32);
  loaded.save(other.path());
  const Json saved = read_json(path(other));
  EXPECT_EQ(saved["image_processor_type"], "CLIPImageProcessor");
  EXPECT_EQ(saved["size"], Json({{"shortest_edge", 40}}));
  EXPECT_EQ(saved["crop_size"], Json({{"height", 32}, {"width", 32}}));
  EXPECT_EQ(saved["rescale_factor"], 0.01);
  expect_same_images(Processors::load(other.path()).input, loaded.input);

  write_file_atomically(path(directory), R"({"size": {"longest_edge": 40}})");
  EXPECT_CONTAINS(message_of([&] { Processors::load(directory.path()); }), path(directory));
}

// Checkpoints of timm and torchvision bring no preprocessor_config.json, but have their ways.
TEST(Processors, ForeignCheckpointsHaveTheirOwnPreparation) {
  const std::string fixtures = std::string(DUET_SOURCE_DIR) + "/tests/golden/fixtures/";
  const ImageSteps timm = Processors::load(fixtures + "layout_timm").input.steps;
  EXPECT_EQ(timm.fit, Fit::shortest_edge);
  EXPECT_EQ(timm.shortest_edge, 13);  // floor(12 / 0.9)
  EXPECT_EQ(timm.crop->width, 12);
  EXPECT_EQ(timm.resample, Resample::bicubic);
  EXPECT_TRUE(timm.crop_rounds);
  EXPECT_EQ(timm.mean[0], 0.5f);
  ::testing::internal::CaptureStderr();
  const ImageSteps torchvision = Processors::load(fixtures + "layout_torchvision").input.steps;
  EXPECT_CONTAINS(::testing::internal::GetCapturedStderr(), "images are prepared as torchvision does by default");
  EXPECT_EQ(torchvision.shortest_edge, 14);  // 12 * 256 / 224, rounded
  EXPECT_EQ(torchvision.crop->height, 12);
  EXPECT_EQ(torchvision.resample, Resample::bilinear);
  EXPECT_EQ(torchvision.deviation[2], 0.225f);
  // Saved with a model and read again it is the same.
  const ImageSteps again = read_image_processor(write_image_processor(timm, 12), "saved");
  EXPECT_TRUE(again.crop_rounds);
  EXPECT_EQ(again.shortest_edge, 13);
  // A model for larger images keeps the proportions.
  const ImageSteps larger = steps_of_size(timm, 24);
  EXPECT_EQ(larger.shortest_edge, 26);
  EXPECT_EQ(larger.crop->width, 24);
}

}  // namespace
}  // namespace duet::train
