#include <gtest/gtest.h>

#include <filesystem>

#include "duet/core/file.h"
#include "duet/models/dual_encoder.h"
#include "duet/models/hub.h"
#include "duet/tests/integration/process.h"
#include "duet/tests/tools/run_duet.h"
#include "onnx.pb.h"

namespace duet::tools {
namespace {

// A dual encoder in RUN/model.
class Export : public ::testing::Test {
 protected:
  Export() {
    models::DualEncoderConfig c;
    c.vision.hidden_size = c.text.hidden_size = 8;
    c.vision.intermediate_size = c.text.intermediate_size = 16;
    c.vision.num_attention_heads = c.text.num_attention_heads = 2;
    c.vision.num_hidden_layers = c.text.num_hidden_layers = 1;
    c.vision.image_size = 8;
    c.vision.patch_size = 4;
    c.text.vocab_size = 16;
    c.projection_dim = 6;
    models::ParamStore store(1);
    const models::DualEncoder model({store, ""}, c);
    models::save_model_directory(directory_ / "model", store, c.to_json());
  }

  void expect_failure(const std::string& arguments, const std::string& message) {
    const auto run = run_duet("export " + arguments);
    EXPECT_EQ(run.status, 1) << arguments;
    EXPECT_NE(run.err.find(message), std::string::npos) << run.err;
    EXPECT_EQ(run.out, "");
  }

  TemporaryDirectory directory_;
};

TEST_F(Export, SaysWhatItWrote) {
  const std::string file = directory_ / "text.onnx";
  const auto run = run_duet("export --model " + directory_.path() + " --onnx " + file + " --part text");
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "wrote   " + file + ": text of " + directory_ / "model" + ", ONNX opset 17, " +
                         std::to_string(std::filesystem::file_size(file)) +
                         " bytes\n"
                         "input   input_ids (batch, sequence) int64\n"
                         "input   attention_mask (batch, sequence) int64\n"
                         "input   token_type_ids (batch, sequence) int64\n"
                         "output  last_hidden_state (batch, sequence, 8) float32\n"
                         "output  pooler_output (batch, 8) float32\n"
                         "output  text_embeds (batch, 6) float32\n");
  onnx_file::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(read_file(file)));
  EXPECT_EQ(model.graph().name(), "text");
}

TEST_F(Export, Failures) {
  const std::string file = directory_ / "x.onnx", to_file = " --onnx " + file;
  expect_failure("--model " + directory_ / "none" + to_file, "none is no model directory");
  expect_failure("--model " + directory_.path() + to_file, "choose one with --part vision or --part text");
  expect_failure("--model " + directory_.path() + to_file + " --part classifier", "is no classifier");
  expect_failure("--model " + directory_.path() + " --part text --onnx " + directory_ / "none/x.onnx",
                 "none/x.onnx: No such file or directory");
  expect_failure("--model " + directory_.path() + " --part text --onnx " + directory_ / "model", "cannot write");
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EQ(run_duet("export --model m").status, 2);
  EXPECT_EQ(run_duet("export --model m --onnx f --part sound").status, 2);
}

// A full disk leaves the old file as it was, and nothing beside it.
TEST_F(Export, KeepsTheOldFileWhenTheDiskIsFull) {
  const std::string file = directory_ / "x.onnx";
  write_file_atomically(file, "old");
  testing::ProcessOptions options;
  options.largest_file = 1000;
  const auto done = testing::run({"export", "--model", directory_.path(), "--part", "vision", "--onnx", file}, options);
  EXPECT_EQ(done.status, 1);
  ASSERT_EQ(done.error_lines().size(), 1u) << done.err;
  EXPECT_NE(done.err.find("cannot write " + file + ": "), std::string::npos) << done.err;
  EXPECT_EQ(read_file(file), "old");
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_.path())) ++files;
  EXPECT_EQ(files, 2u);
}

}  // namespace
}  // namespace duet::tools
