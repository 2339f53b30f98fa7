#include "duet/train/image_processor.h"

#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

ImageSteps read(const std::string& json) {
  return read_image_processor(parse_json(json, "p.json"), "p.json");
}

std::string error_of(const std::string& json) {
  return message_of([&] { read(json); });
}

void expect_size(const std::optional<ImageInfo>& size, int width, int height) {
  ASSERT_TRUE(size);
  EXPECT_EQ(size->width, width);
  EXPECT_EQ(size->height, height);
}

void expect_same(const ImageSteps& a, const ImageSteps& b) {
  EXPECT_EQ(a.fit, b.fit);
  EXPECT_EQ(a.resample, b.resample);
  EXPECT_EQ(a.size.has_value(), b.size.has_value());
  if (a.size && b.size) expect_size(a.size, b.size->width, b.size->height);
  EXPECT_EQ(a.shortest_edge, b.shortest_edge);
  EXPECT_EQ(a.crop.has_value(), b.crop.has_value());
  if (a.crop && b.crop) expect_size(a.crop, b.crop->width, b.crop->height);
  EXPECT_EQ(a.rescale_factor, b.rescale_factor);
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.deviation, b.deviation);
}

// As google/vit-base-patch16-224 had and has it.
TEST(ImageProcessor, ReadsViT) {
  for (const char* json :
       {R"({})", R"({"size": 224})", R"({"feature_extractor_type": "ViTFeatureExtractor", "size": 224})",
        R"({"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2})",
        R"({"image_processor_type": "ViTImageProcessorFast", "do_convert_rgb": null, "crop_size": null})",
        R"({"image_processor_type": "ViTImageProcessorPil", "do_center_crop": false, "do_pad": false})"}) {
    const ImageSteps steps = read(json);
    EXPECT_EQ(steps.fit, Fit::stretch);
    EXPECT_EQ(steps.resample, Resample::bilinear);
    expect_size(steps.size, 224, 224);
    EXPECT_FALSE(steps.crop);
    EXPECT_EQ(steps.rescale_factor, 1.0 / 255);  // also without do_rescale
    EXPECT_EQ(steps.mean, (std::array<float, 3>{0.5f, 0.5f, 0.5f}));
  }
}

TEST(ImageProcessor, ReadsClip) {
  for (const char* json :
       {R"({"image_processor_type": "CLIPImageProcessor"})", R"({"image_processor_type": "CLIPImageProcessorFast"})",
        R"({"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3})",
        R"({"image_processor_type": "CLIPImageProcessor", "feature_extractor_type": "CLIPFeatureExtractor",
            "size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": true})"}) {
    const ImageSteps steps = read(json);
    EXPECT_EQ(steps.fit, Fit::shortest_edge);
    EXPECT_EQ(steps.shortest_edge, 224);
    EXPECT_EQ(steps.resample, Resample::bicubic);
    expect_size(steps.crop, 224, 224);
    EXPECT_EQ(steps.mean[0], 0.48145466f);
    EXPECT_EQ(steps.deviation[2], 0.27577711f);
  }
}

TEST(ImageProcessor, ReadsEveryOption) {
  const char* names[] = {"nearest", "LANCZOS", "bilinear", "Bicubic", "box", "hamming"};
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(read(text(R"({"resample": )", i, "}")).resample, static_cast<Resample>(i));
    EXPECT_EQ(read(text(R"({"resample": ")", names[i], "\"}")).resample, static_cast<Resample>(i));
  }
  expect_size(read(R"({"size": {"height": 20, "width": 10}})").size, 10, 20);
  const ImageSteps crop = read(R"({"size": {"shortest_edge": 80}, "do_center_crop": true,
                                  "crop_size": {"height": 64, "width": 48}})");
  EXPECT_EQ(crop.shortest_edge, 80);
  expect_size(crop.crop, 48, 64);
  EXPECT_FALSE(read(R"({"image_processor_type": "CLIPImageProcessor", "do_center_crop": false})").crop);
  EXPECT_EQ(read(R"({"do_resize": false})").fit, Fit::keep);
  EXPECT_EQ(read(R"({"do_rescale": false, "rescale_factor": 0.5})").rescale_factor, 1);
  EXPECT_EQ(read(R"({"rescale_factor": 0.00784313725490196})").rescale_factor, 0.00784313725490196);
  const ImageSteps plain = read(R"({"do_normalize": false, "image_mean": 0.5})");
  EXPECT_EQ(plain.mean, (std::array<float, 3>{0, 0, 0}));
  EXPECT_EQ(plain.deviation, (std::array<float, 3>{1, 1, 1}));
  EXPECT_EQ(read(R"({"image_mean": 0.25})").mean, (std::array<float, 3>{0.25f, 0.25f, 0.25f}));
  EXPECT_EQ(read(R"({"image_std": [0.5, 0.25, 1]})").deviation, (std::array<float, 3>{0.5f, 0.25f, 1}));
  EXPECT_EQ(read(R"({"duet_fit": "pad"})").fit, Fit::pad);
}

TEST(ImageProcessor, RefusesByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([])", "must be a JSON object"},
      {R"({"image_processor_type": "BeitImageProcessor"})", "\"BeitImageProcessor\" is not supported"},
      {R"({"feature_extractor_type": "DeiTFeatureExtractor"})", "\"DeiTFeatureExtractor\" is not supported"},
      {R"({"image_processor_type": 3})", "image_processor_type"},
      {R"({"size": {"longest_edge": 224}})", R"(size {"longest_edge":224} is not supported)"},
      {R"({"size": {"shortest_edge": 224, "longest_edge": 300}})", "longest_edge"},
      {R"({"size": {"height": 20}})", "is not supported"},
      {R"({"size": "big"})", "size \"big\""},
      {R"({"size": 0})", "whole numbers from 1"},
      {R"({"size": 65537})", "to 65536"},
      {R"({"size": 18446744073709551615})", "to 65536"},
      {R"({"size": 2.5})", "whole numbers"},
      {R"({"size": {"height": 20, "width": -1}})", "whole numbers"},
      {R"({"do_center_crop": true})", "needs crop_size"},
      {R"({"do_center_crop": true, "crop_size": {"shortest_edge": 5}})", "crop_size"},
      {R"({"do_center_crop": true, "crop_size": 0})", "crop_size"},
      {R"({"do_pad": true})", "do_pad is not supported"},
      {R"({"rescale_offset": true})", "rescale_offset is not supported"},
      {R"({"do_flip_channel_order": true})", "do_flip_channel_order"},
      {R"({"crop_pct": 0.9})", "crop_pct"},
      {R"({"do_resize": 1})", "do_resize"},
      {R"({"resample": 6})", "resample 6 is not supported"},
      {R"({"resample": -1})", "resample -1"},
      {R"({"resample": "cubic"})", "resample \"cubic\""},
      {R"({"resample": true})", "resample true"},
      {R"({"image_mean": [1, 2]})", "image_mean must be a number or three"},
      {R"({"image_std": 0})", "image_std must be positive"},
      {R"({"image_std": [1, 1, -1]})", "image_std must be positive"},
      {R"({"image_std": 1e-40})", "no finite number"},
      {R"({"image_mean": 1e39})", "no finite number"},
      {R"({"rescale_factor": 1e300})", "no finite number"},
      {R"({"rescale_factor": "small"})", "rescale_factor"},
      {R"({"duet_fit": "crop"})", "duet_fit \"crop\" is unknown"},
      {R"({"duet_fit": "pad", "size": {"shortest_edge": 5}})", "duet_fit \"pad\" needs"},
  };
  for (const auto& [json, expected] : cases) {
    const std::string message = error_of(json);
    EXPECT_CONTAINS(message, expected);
    if (std::string_view(json).find("do_resize") == std::string_view::npos) continue;
    EXPECT_CONTAINS(message, "wrong type");
  }
}

TEST(ImageProcessor, WhatIsWrittenReadsBackTheSame) {
  for (const char* json :
       {R"({})", R"({"duet_fit": "pad", "size": 64, "resample": 0})", R"({"size": {"height": 20, "width": 10}})",
        R"({"image_processor_type": "CLIPImageProcessor"})",
        R"({"image_processor_type": "CLIPImageProcessor", "do_center_crop": false, "resample": "lanczos"})",
        R"({"do_resize": false, "do_rescale": false, "do_normalize": false})",
        R"({"do_resize": false, "do_center_crop": true, "crop_size": 32})",
        R"({"size": 40, "do_center_crop": true, "crop_size": {"height": 32, "width": 31}, "resample": 5})",
        R"({"duet_fit": "pad", "size": 40, "do_center_crop": true, "crop_size": 32})",
        R"({"rescale_factor": 0.00784313725490196, "image_mean": 1, "image_std": [0.1, 0.2, 0.3]})"}) {
    const ImageSteps steps = read(json);
    const Json written = write_image_processor(steps, 1);
    expect_same(read(written.dump()), steps);
    EXPECT_EQ(write_image_processor(read(written.dump()), 1), written) << json;
  }
  // Without a size of their own the steps get the model's.
  EXPECT_EQ(write_image_processor({}, 48)["size"], Json({{"height", 48}, {"width", 48}}));
}

}  // namespace
}  // namespace duet::train
