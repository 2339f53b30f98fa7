#include <gtest/gtest.h>

#include <filesystem>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/tests/integration/process.h"
#include "duet/tests/real_data.h"

// Both strategies on a little of the real data, on the device and on the CPU: pretraining, fine-tuning and test follow
// each other with the same numbers but for rounding.
namespace duet::testing {
namespace {

// The duet to run on the device: one that is linked with the emulation where it lies beside this test, else the
// build's.
std::string device_binary() {
  const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "duet_emulated";
  return std::filesystem::exists(beside) ? beside.string() : DUET_BINARY;
}

Json compare_on(const std::string& device, const TemporaryDirectory& directory) {
  const std::string out = directory / ("compare-" + device);
  std::vector<std::string> arguments = {"compare",
                                        "--data",
                                        directory / "openclipart",
                                        "--out",
                                        out,
                                        "--device",
                                        device,
                                        "--vision-data",
                                        directory / "fashion-mnist",
                                        "--text-data",
                                        directory / "wordnet",
                                        "--vocab",
                                        directory / "vocab.txt",
                                        "--vision-config",
                                        directory / "vision.json",
                                        "--text-config",
                                        directory / "text.json",
                                        "--methods",
                                        "whole,component",
                                        "--seeds",
                                        "1",
                                        "--max-length",
                                        "16",
                                        "--batch",
                                        "8",
                                        "--workers",
                                        "0"};
  for (const char* stage : {"", "vision-", "text-", "joint-"})
    for (const std::string& part : {text("--", stage, "steps"), std::string("4")}) arguments.push_back(part);
  for (const char* stage : {"vision-", "text-", "joint-"})
    for (const std::string& part : {text("--", stage, "batch"), std::string("8")}) arguments.push_back(part);
  const Finished f = run(arguments, {.program = device_binary()});
  EXPECT_EQ(f.status, 0) << f.err;
  return f.status == 0 ? read_json(out + "/report.json") : Json();
}

TEST(DeviceRealData, BothStrategiesFollowTheCpu) {
  if (!has_real_data({"/usr/share/openclipart/png", "/usr/share/openclipart/svg", "/usr/share/wordnet/data.noun",
                      "/usr/share/datasets/fashion-mnist"}))
    return;
  const TemporaryDirectory directory;
  const auto must = [](const std::vector<std::string>& arguments) {
    const Finished f = run(arguments, {.program = DUET_BINARY});
    ASSERT_EQ(f.status, 0) << f.err;
  };
  must({"data", "openclipart", "--out", directory / "openclipart", "--limit", "100", "--max-side", "32"});
  must({"data", "wordnet", "--out", directory / "wordnet", "--limit", "300"});
  must({"data", "fashion-mnist", "--out", directory / "fashion-mnist", "--limit", "100"});
  must({"vocab", "--data", directory / "wordnet", directory / "openclipart", "--vocab-size", "500", "--out",
        directory / "vocab.txt"});
  write_file_atomically(directory / "vision.json",
                        R"({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                            "intermediate_size": 64, "image_size": 32, "patch_size": 8, "initializer_range": 0.05})");
  write_file_atomically(directory / "text.json",
                        R"({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 500,
                            "intermediate_size": 64, "max_position_embeddings": 16, "initializer_range": 0.05})");
  const Json here = compare_on("cpu", directory), there = compare_on("cuda", directory);
  if (here.is_null() || there.is_null()) return;
  ASSERT_EQ(here.at("cells").size(), 2u);
  ASSERT_EQ(there.at("cells").size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const Json &a = here["cells"][i], &b = there["cells"][i];
    EXPECT_EQ(a.at("method"), b.at("method"));
    EXPECT_EQ(a.at("samples_seen"), b.at("samples_seen"));
    ASSERT_EQ(a.at("loss_per_epoch").size(), b.at("loss_per_epoch").size());
    for (size_t k = 0; k < a["loss_per_epoch"].size(); ++k)
      EXPECT_NEAR(a["loss_per_epoch"][k].get<double>(), b["loss_per_epoch"][k].get<double>(), 2e-4) << a["method"];
  }
  EXPECT_NE(there.at("machine").get<std::string>().find("cuda:0"), std::string::npos) << there.at("machine");
}

}  // namespace
}  // namespace duet::testing
