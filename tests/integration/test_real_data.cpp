#include <gtest/gtest.h>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/tests/integration/process.h"
#include "duet/tests/real_data.h"

// The whole job in miniature, on a part of the real data: what tools/quickstart does, in under two minutes.
namespace duet::testing {
namespace {

TEST(RealData, BothStrategiesBeatTheMajorityClass) {
  if (!has_real_data({"/usr/share/openclipart/png", "/usr/share/openclipart/svg", "/usr/share/wordnet/data.noun",
                      "/usr/share/datasets/fashion-mnist"}))
    return;
  const TemporaryDirectory directory;
  const auto must = [](const std::vector<std::string>& arguments) {
    const Finished f = run(arguments);
    ASSERT_EQ(f.status, 0) << f.err;
  };
  must({"data", "openclipart", "--out", directory / "openclipart", "--limit", "1200", "--max-side", "64"});
  must({"data", "wordnet", "--out", directory / "wordnet", "--limit", "12000"});
  must({"data", "fashion-mnist", "--out", directory / "fashion-mnist", "--limit", "2000"});
  must({"vocab", "--data", directory / "wordnet", directory / "openclipart", "--vocab-size", "4000", "--out",
        directory / "vocab.txt"});
  // Coarse patches: seventeen tokens an image instead of sixty-five.
  const std::string vision = directory / "vision.json";
  write_file_atomically(vision,
                        R"({"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                            "intermediate_size": 256, "image_size": 64, "patch_size": 16, "initializer_range": 0.05})");
  const std::string out = directory / "compare";
  must({"compare",
        "--data",
        directory / "openclipart",
        "--vision-data",
        directory / "fashion-mnist",
        "--text-data",
        directory / "wordnet",
        "--vocab",
        directory / "vocab.txt",
        "--vision-config",
        vision,
        "--out",
        out,
        "--methods",
        "whole,component",
        "--seeds",
        "1",
        "--epochs",
        "6",
        "--lr",
        "1e-3",
        "--text-epochs",
        "2",
        "--text-lr",
        "1e-3",
        "--vision-epochs",
        "1",
        "--vision-lr",
        "1e-3",
        "--joint-epochs",
        "3",
        "--joint-lr",
        "1e-3",
        "--max-length",
        "24"});
  const Json report = read_json(out + "/report.json");
  const double majority = report.at("dataset").at("majority_accuracy");
  EXPECT_GT(majority, 0.15);
  ASSERT_EQ(report.at("cells").size(), 2u);
  for (const Json& cell : report.at("cells"))
    EXPECT_GT(cell.at("accuracy").get<double>(), majority + 0.05) << cell.at("method");
  EXPECT_GT(std::filesystem::file_size(out + "/report.html"), 50'000u);
}

}  // namespace
}  // namespace duet::testing
