#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "duet/tests/integration/tiny_data.h"

namespace duet::testing {
namespace {

class Strategies : public ::testing::Test {
 protected:
  void ok(const std::vector<std::string>& arguments) {
    const Finished f = run(arguments);
    ASSERT_EQ(f.status, 0) << f.err;
  }
  std::vector<std::string> finetune(const std::string& strategy, const std::string& out,
                                    const std::vector<std::string>& more) const {
    std::vector<std::string> all = data_.training({"finetune", "--strategy", strategy}, data_ / out, {"--steps", "4"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  TinyData data_;
};

TEST_F(Strategies, PretrainedRunsAndTheirModelsAreBothAccepted) {
  const std::vector<std::string> steps{"--steps", "4"};
  ok(data_.training({"pretrain", "joint"}, data_ / "joint", steps));
  ok(data_.training({"pretrain", "vision"}, data_ / "vision", steps));
  ok(data_.training({"pretrain", "text"}, data_ / "text", steps));
  ok(data_.training({"pretrain", "text", "--objective", "mlm"}, data_ / "mlm", steps));

  ok(finetune("whole", "w1", {"--joint", data_ / "joint"}));
  ok(finetune("whole", "w2", {"--joint", data_ / "joint/model"}));
  EXPECT_TRUE(weights(data_ / "w1") == weights(data_ / "w2"));
  ok(finetune("component", "c1", {"--vision", data_ / "vision", "--text", data_ / "text"}));
  ok(finetune("component", "c2", {"--vision", data_ / "vision/model", "--text", data_ / "text/model"}));
  EXPECT_TRUE(weights(data_ / "c1") == weights(data_ / "c2"));
  EXPECT_FALSE(weights(data_ / "c1") == weights(data_ / "w1"));
  ok(finetune("component", "c3", {"--vision", data_ / "vision", "--text", data_ / "mlm"}));
  ok(finetune("image-only", "i", {}));
  ok(finetune("text-only", "t", {}));

  // What has no effect is said.
  const Finished noted =
      run(finetune("component", "n", {"--vision", data_ / "vision", "--text", data_ / "text", "--size", "tiny"}));
  EXPECT_EQ(noted.status, 0);
  for (const char* note : {"note: --vocab is not used", "note: --size is not used"})
    EXPECT_NE(noted.err.find(note), std::string::npos) << noted.err;
  const Finished used = run(finetune("text-only", "u", {}));
  EXPECT_EQ(used.err.find("is not used"), std::string::npos) << used.err;

  // The wrong kind of model is named.
  const Finished f = run(finetune("component", "x", {"--vision", data_ / "text", "--text", data_ / "text"}));
  EXPECT_EQ(f.status, 1);
  ASSERT_EQ(f.error_lines().size(), 1u) << f.err;
  EXPECT_NE(f.err.find(data_ / "text"), std::string::npos) << f.err;
}

TEST_F(Strategies, EvaluateAndPredictAgreeWithTheRun) {
  const std::string out = data_ / "run";
  ok(data_.finetuning(out, {"--steps", "30"}));
  const Json test = read_json(out + "/result.json").at("test");

  for (const std::string& model : {out, out + "/model"}) {
    const Finished f = run({"evaluate", "--model", model, "--data", data_.path(), "--json"});
    ASSERT_EQ(f.status, 0) << f.err;
    const Json result = json_lines(f.out).at(0);
    EXPECT_EQ(result, read_json(out + "/model/metrics.json"));
    for (const char* key : {"accuracy", "top5", "macro_f1", "loss", "confusion", "labels"})
      EXPECT_EQ(result.at(key), test.at(key)) << key;
    EXPECT_EQ(result["labels"], Json(data_.labels));
    EXPECT_EQ(result["samples"], 12);
    int64_t total = 0;
    for (const Json& row : result["confusion"])
      for (const Json& count : row) total += count.get<int64_t>();
    EXPECT_EQ(total, 12);
  }

  const Finished all = run({"predict", "--model", out, "--data", data_.path(), "--split", "test"});
  ASSERT_EQ(all.status, 0) << all.err;
  const std::vector<Json> lines = json_lines(all.out);
  ASSERT_EQ(lines.size(), 12u);
  size_t right = 0;
  for (const Json& line : lines) {
    double sum = 0, best = 0;
    for (const auto& [label, p] : line.at("probabilities").items()) {
      sum += p.get<double>();
      best = std::max(best, p.get<double>());
    }
    EXPECT_NEAR(sum, 1, 1e-5);
    EXPECT_EQ(line["probabilities"][line.at("label").get<std::string>()], best);
    right += line.at("id").get<std::string>().find(line["label"].get<std::string>()) != std::string::npos;
  }
  EXPECT_NEAR(static_cast<double>(right) / 12, test["accuracy"].get<double>(), 1e-9);

  // One image and text on their own give what they gave among others.
  const Json& row =
      *std::find_if(data_.rows.begin(), data_.rows.end(), [&](const Json& r) { return r["id"] == lines[5]["id"]; });
  const Finished one = run({"predict", "--model", out, "--image", data_.path() + "/" + row["image"].get<std::string>(),
                            "--text", row["text"].get<std::string>()});
  ASSERT_EQ(one.status, 0) << one.err;
  const Json single = json_lines(one.out).at(0);
  EXPECT_EQ(single["label"], lines[5]["label"]);
  for (const auto& [label, p] : single["probabilities"].items())
    EXPECT_NEAR(p.get<double>(), lines[5]["probabilities"][label].get<double>(), 1e-5);

  const auto expect_refused = [&](std::vector<std::string> more, int status, const std::string& named) {
    more.insert(more.begin(), {"predict", "--model", out});
    const Finished f = run(more);
    EXPECT_EQ(f.status, status) << f.err;
    EXPECT_EQ(f.error_lines().size(), 1u) << f.err;
    EXPECT_NE(f.err.find(named), std::string::npos) << f.err;
  };
  expect_refused({"--text", "red cup"}, 2, "--image");
  expect_refused({"--image", data_.path() + "/images/test-red-0.png"}, 2, "--text");
  expect_refused({"--image", data_ / "none.png", "--text", "x"}, 1, "none.png");
  expect_refused({"--data", data_.path(), "--text", "x"}, 2, "--data");
}

// What the model was trained to see must also hold for those who use it later.
TEST_F(Strategies, TheLengthOfTextsIsKeptWithTheModel) {
  for (Json& row : data_.rows) row["text"] = "cup hat box car " + row["text"].get<std::string>();
  data_.write_manifest();
  const std::string out = data_ / "run";
  ok(data_.finetuning(out, {"--steps", "10"}));
  ok({"evaluate", "--model", out, "--data", data_.path()});
  EXPECT_EQ(read_json(out + "/model/metrics.json").at("loss"), read_json(out + "/result.json").at("test").at("loss"));
  EXPECT_EQ(read_json(out + "/model/tokenizer_config.json").at("model_max_length"), 8);
}

}  // namespace
}  // namespace duet::testing
