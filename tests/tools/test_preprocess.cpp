#include <gtest/gtest.h>

#include "duet/core/file.h"
#include "duet/core/safetensors.h"
#include "duet/tests/tools/run_duet.h"
#include "duet/train/image_processor.h"

namespace duet::tools {
namespace {

class Preprocess : public ::testing::Test {
 protected:
  Preprocess() {
    for (int i = 0; i < 12 * 9 * 3; ++i) image_.rgb.push_back(static_cast<uint8_t>(i * 37));
    write_file_atomically(directory_ / "a.png", train::encode_png(image_));
  }

  CommandResult run(const std::string& processor, const std::string& more) {
    write_file_atomically(directory_ / "preprocessor_config.json", processor);
    return run_duet("preprocess --processor " + (directory_ / "preprocessor_config.json") + " --output " +
                    (directory_ / "out.safetensors") + " " + more);
  }

  testing::TemporaryDirectory directory_;
  train::Image image_{12, 9, {}};
};

TEST_F(Preprocess, WritesTensorsAndBytes) {
  write_file_atomically(directory_ / "list", (directory_ / "a.png") + "\n\n" + (directory_ / "a.png") + "\n");
  const std::string json = R"({"image_processor_type": "CLIPImageProcessor", "size": 8, "crop_size": {"height": 7,
                               "width": 6}, "rescale_factor": 0.01})";
  const CommandResult result =
      run(json, "--bytes --image " + (directory_ / "a.png") + " --list " + (directory_ / "list"));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("images    3"), std::string::npos) << result.out;
  const SafetensorsFile file = SafetensorsFile::open(directory_ / "out.safetensors");
  EXPECT_EQ(file.names().size(), 6u);
  const train::ImageSteps steps = train::read_image_processor(parse_json(json, ""), "");
  const train::Image expected = train::fit_image(image_, steps, 1);
  std::vector<float> pixels(expected.rgb.size());
  train::to_chw(expected, steps, pixels.data());
  for (const char* i : {"0", "1", "2"}) {
    const Tensor bytes = file.load(std::string("bytes.") + i), floats = file.load(std::string("pixels.") + i);
    EXPECT_EQ(text(bytes.shape()), text(Shape{7, 6, 3}));
    EXPECT_EQ(text(floats.shape()), text(Shape{3, 7, 6}));
    const auto b = bytes.values<uint8_t>();
    EXPECT_TRUE(std::equal(b.begin(), b.end(), expected.rgb.begin(), expected.rgb.end()));
    const auto f = floats.values<float>();
    EXPECT_TRUE(std::equal(f.begin(), f.end(), pixels.begin(), pixels.end()));
  }
}

TEST_F(Preprocess, SizesMayDifferFromImageToImage) {
  ASSERT_EQ(run(R"({"do_resize": false})", "--image " + (directory_ / "a.png")).status, 0);
  const SafetensorsFile file = SafetensorsFile::open(directory_ / "out.safetensors");
  EXPECT_EQ(file.names(), std::vector<std::string>{"pixels.0"});
  EXPECT_EQ(file.entry("pixels.0").shape, (std::vector<int64_t>{3, 9, 12}));
}

TEST_F(Preprocess, SaysWhatIsWrong) {
  const CommandResult bad = run(R"({"size": {"longest_edge": 8}})", "--image " + (directory_ / "a.png"));
  EXPECT_EQ(bad.status, 1);
  EXPECT_NE(bad.err.find("longest_edge"), std::string::npos) << bad.err;
  const CommandResult missing = run("{}", "--image " + (directory_ / "none.png"));
  EXPECT_EQ(missing.status, 1);
  EXPECT_NE(missing.err.find("none.png"), std::string::npos) << missing.err;
  const CommandResult folder = run("{}", "--list " + (directory_ / ""));
  EXPECT_EQ(folder.status, 1);
  EXPECT_NE(folder.err.find("is a directory; --list takes a file"), std::string::npos) << folder.err;
  EXPECT_EQ(run("{}", "").status, 2);
  EXPECT_EQ(run_duet("preprocess --image a.png --output o").status, 2);
}

}  // namespace
}  // namespace duet::tools
