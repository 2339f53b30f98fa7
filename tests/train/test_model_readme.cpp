#include "duet/train/model_readme.h"

#include <sstream>

#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/tests/train/expect.h"
#include "duet/train/strategies.h"

namespace duet::train {
namespace {

const Json run{{"stage", "finetune"}, {"data", Json::array({{{"name", "drawings"}, {"train", 2540}}})}};

// What is between the fences of the page's only Python block.
std::string python_of(const std::string& page) {
  const std::string open = "\n```python\n", close = "\n```\n";
  const size_t begin = page.find(open), end = page.find(close, begin + open.size());
  EXPECT_TRUE(begin != page.npos && end != page.npos) << page;
  EXPECT_EQ(page.find(open, begin + 1), page.npos);
  return page.substr(begin + open.size(), end - begin - open.size());
}

Json multimodal() {
  models::ClassifierConfig c;
  c.vision = preset_size("mini").vision;
  c.text = preset_size("mini").text;
  c.labels = {"a", "b", "c"};
  return c.to_json();
}

TEST(ModelReadme, MultimodalClassifierHasAProgramThatLoadsIt) {
  const std::string page = model_readme(multimodal(), {.max_length = 24}, run);
  EXPECT_TRUE(page.starts_with("# Image and text classifier\n"));
  EXPECT_CONTAINS(page, "Trained with `duet finetune` on 2,540 samples of the data set drawings.");
  EXPECT_CONTAINS(page, "- images: 3 layers, 96 wide, 3 heads, 64 x 64 pixels in patches of 8\n");
  EXPECT_CONTAINS(page, "- texts: 2 layers, 128 wide, 4 heads, up to 24 tokens of a vocabulary of 30522\n");
  EXPECT_CONTAINS(page, "- labels: 3, ");
  for (const char* keys : {"`vision_model.*`", "`text_model.*`", "`classifier.weight`", "`classifier.bias`"})
    EXPECT_CONTAINS(page, keys);
  const std::string program = python_of(page);
  for (const char* step : {"preprocessor_config", "model.safetensors", "ViTConfig(**config[\"vision_config\"])",
                           "add_pooling_layer=False", "BertConfig(**config[\"text_config\"])", "part(\"classifier\")",
                           "BertTokenizer.from_pretrained(directory)", "softmax(dim=1)", "id2label"})
    EXPECT_CONTAINS(program, step);
}

// However images are prepared: 30 lines with code in them. Padding and cropping together occur in no model.
TEST(ModelReadme, TheProgramIsShort) {
  for (const Fit fit : {Fit::pad, Fit::stretch, Fit::shortest_edge, Fit::keep})
    for (const bool crop : {false, true}) {
      if (fit == Fit::pad && crop) continue;
      InputConfig input{.steps = {.fit = fit}};
      if (crop) input.steps.crop = ImageInfo{64, 64};
      int lines = 0;
      std::istringstream in(python_of(model_readme(multimodal(), input, run)));
      for (std::string line; std::getline(in, line);)
        if (const size_t first = line.find_first_not_of(' '); first != line.npos && line[first] != '#') ++lines;
      EXPECT_GT(lines, 20);
      EXPECT_LE(lines, 30) << fit_name(fit) << ' ' << crop;
    }
}

// Transformers' own processors would stretch; the program must do as the training did.
TEST(ModelReadme, ImagesArePreparedAsInTraining) {
  const std::string pad = python_of(model_readme(multimodal(), {}, run));
  EXPECT_CONTAINS(pad, "square.paste(");
  const std::string stretch = python_of(model_readme(multimodal(), {.steps = {.fit = Fit::stretch}}, run));
  EXPECT_CONTAINS(stretch, "image.resize((side, side)");
  EXPECT_EQ(stretch.find("square"), stretch.npos);
}

TEST(ModelReadme, OtherModelsAreLoadedWhole) {
  Json image = preset_size("mini").vision.to_json(), text = preset_size("mini").text.to_json();
  image["architectures"] = {"ViTForImageClassification"};
  text["architectures"] = {"BertForMaskedLM"};
  const std::string vision_page = model_readme(image, {.use_text = false}, run);
  EXPECT_CONTAINS(python_of(vision_page), "ViTForImageClassification.from_pretrained(directory)");
  EXPECT_CONTAINS(python_of(vision_page), "ViTImageProcessor.from_pretrained(directory)");
  EXPECT_EQ(vision_page.find("Tokenizer"), vision_page.npos);
  EXPECT_CONTAINS(vision_page, "centred on a white square");
  const std::string text_page = model_readme(text, {.use_images = false}, run);
  EXPECT_CONTAINS(python_of(text_page), "BertForMaskedLM.from_pretrained(directory)");
  EXPECT_CONTAINS(python_of(text_page), "BertTokenizer.from_pretrained(directory)");
  EXPECT_EQ(text_page.find("pixels"), text_page.npos);
  EXPECT_EQ(text_page.find("labels:"), text_page.npos);
  EXPECT_CONTAINS(python_of(model_readme(preset_size("mini").to_json(), {}, run)),
                  "VisionTextDualEncoderModel.from_pretrained(directory)");
  text["architectures"] = {"BertForTokenClassification"};
  EXPECT_CONTAINS(message_of([&] { model_readme(text, {}, run); }), "BertForTokenClassification");
}

}  // namespace
}  // namespace duet::train
