#include "duet/train/compare.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "duet/core/file.h"
#include "duet/core/parallel.h"
#include "duet/tests/train/tiny_data.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

class Compare : public ::testing::Test {
 protected:
  Compare() {
    set_threads(1);
    write_tiny_dataset(directory_ / "data", 20, 5, 7);
    StageConfig& s = config_.finetune;
    s.data = {directory_ / "data"};
    s.size = tiny_size();
    s.vocab = directory_ / "data/vocab.txt";
    s.options.steps = 3;
    s.options.batch = 10;
    s.options.workers = 0;
    config_.vision = config_.text = config_.joint = s.options;
    config_.vision.steps = 2;
    config_.out = directory_ / "out";
    config_.seeds = 2;
    config_.fractions = {0.5, 1};
    config_.machine = "test";
    config_.size_name = "tiny";
    ::testing::internal::CaptureStderr();
  }
  ~Compare() override { ::testing::internal::GetCapturedStderr(); }

  std::map<std::string, fs::file_time_type> cell_times() const {
    std::map<std::string, fs::file_time_type> times;
    for (const auto& entry : fs::directory_iterator(config_.out + "/cells"))
      times[entry.path().filename()] = fs::last_write_time(entry.path() / "cell.json");
    return times;
  }
  std::vector<std::string> pretrained() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(config_.out + "/pretrain"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  // What must not depend on the clock.
  static Json timeless(Json cells) {
    for (Json& cell : cells) {
      for (const char* key : {"seconds", "peak_rss_bytes", "config"}) cell.erase(key);
      for (Json& stage : cell["stages"]) {
        stage.erase("seconds");
        stage.erase("peak_rss_bytes");
      }
    }
    return cells;
  }

  TemporaryDirectory directory_;
  CompareConfig config_;
};

TEST_F(Compare, EveryMethodSeedAndFractionHasItsCell) {
  const Json report = compare(config_, false);
  EXPECT_EQ(read_json(config_.out + "/report.json").at("cells"), report.at("cells"));
  ASSERT_EQ(report.at("cells").size(), 5u * 2 * 2);
  std::map<std::string, int> count;
  for (const Json& cell : report.at("cells")) {
    const auto method = cell.at("method").get<std::string>();
    ++count[method];
    const double fraction = cell.at("fraction");
    // Of ten samples a step: one batch is the half's whole epoch, two batches are all of it.
    std::map<std::string, int64_t> expected{{"whole", 30}, {"component", 20 + 30}};
    EXPECT_EQ(cell.at("samples_seen"), expected[method] + 30) << method;
    EXPECT_EQ(cell.at("config").at("data")[0].at("train"), fraction == 1 ? 20 : 10);
    EXPECT_EQ(cell.at("config").at("options").at("seed"), cell.at("seed"));
    EXPECT_EQ(cell.at("stages").size(), method == "component" ? 3u : method == "whole" ? 2u : 1u);
    double flops = 0;
    for (const Json& stage : cell.at("stages")) flops += stage.at("flops").get<double>();
    EXPECT_DOUBLE_EQ(cell.at("flops").get<double>(), flops);
    EXPECT_EQ(cell.at("confusion").size(), 3u);
    EXPECT_EQ(cell.at("loss_per_epoch").size(), fraction == 1 ? 2u : 3u);
    EXPECT_EQ(cell.at("validation_accuracy_per_epoch").size(), cell.at("loss_per_epoch").size());
    const bool shown = (method == "whole" || method == "component") && cell.at("seed") == 0 && fraction == 1;
    EXPECT_EQ(cell.contains("predictions"), shown);
    if (shown) {
      ASSERT_EQ(cell.at("predictions").size(), 7u);
      EXPECT_TRUE(cell.at("predictions")[0].at("image_png_base64").get<std::string>().starts_with("iVBORw0KGgo"));
    }
  }
  for (const std::string& method : all_methods) EXPECT_EQ(count[method], 4) << method;
  EXPECT_EQ(pretrained(), (std::vector<std::string>{"joint-seed0", "joint-seed1", "text-seed0", "text-seed1",
                                                    "vision-seed0", "vision-seed1"}));
  const Json& dataset = report.at("dataset");
  EXPECT_EQ(dataset.at("train"), 20);
  EXPECT_EQ(dataset.at("test"), 7);
  // The test samples are numbers 25 to 31 and their labels a, b, c, a, b, a, b; a and b are equally frequent.
  EXPECT_DOUBLE_EQ(dataset.at("majority_accuracy").get<double>(), 3.0 / 7);
}

TEST_F(Compare, ResumingRepeatsNoFinishedCell) {
  config_.methods = {"whole", "text-only"};
  const Json whole = compare(config_, false);
  const auto before = cell_times();
  ASSERT_EQ(before.size(), 8u);
  const std::string lost = "whole-seed1-fraction0.5";
  fs::remove_all(config_.out + "/cells/" + lost);
  fs::remove(config_.out + "/report.json");
  const Json again = compare(config_, true);
  EXPECT_EQ(timeless(again.at("cells")), timeless(whole.at("cells")));
  for (const auto& [name, time] : cell_times()) EXPECT_EQ(time == before.at(name), name != lost) << name;
  EXPECT_TRUE(fs::exists(config_.out + "/report.json"));

  EXPECT_CONTAINS(message_of([&] { compare(config_, false); }), "already holds a comparison; pass --resume");
  CompareConfig changed = config_;
  changed.joint.lr = 0.5;
  EXPECT_CONTAINS(message_of([&] { compare(changed, true); }), "was started with another \"pretrain_joint\"");
  std::ofstream(directory_ / "data/vocab.txt", std::ios::app) << "extra\n";
  EXPECT_CONTAINS(message_of([&] { compare(config_, true); }), "data/vocab.txt has changed since");
}

TEST_F(Compare, MoreSeedsAndMethodsExtendAComparison) {
  config_.methods = {"text-only"};
  config_.fractions = {1};
  config_.seeds = 1;
  compare(config_, false);
  const auto before = cell_times();
  config_.seeds = 2;
  config_.methods = {"text-only", "image-only"};
  EXPECT_EQ(compare(config_, true).at("cells").size(), 4u);
  EXPECT_EQ(cell_times().size(), 4u);
  for (const auto& [name, time] : before) EXPECT_EQ(cell_times().at(name), time) << name;
  config_.seeds = 1;
  EXPECT_EQ(compare(config_, true).at("cells").size(), 2u);
  EXPECT_EQ(read_json(config_.out + "/config.json").at("seeds"), 1);
}

TEST_F(Compare, WrongInputsShowBeforeTraining) {
  config_.text_data = directory_ / "nowhere";
  EXPECT_CONTAINS(message_of([&] { compare(config_, false); }), "nowhere");
  config_.text_data = "";
  config_.finetune.vocab = directory_ / "no.txt";
  EXPECT_CONTAINS(message_of([&] { compare(config_, false); }), "no.txt");
  config_.finetune.vocab = "";
  EXPECT_CONTAINS(message_of([&] { compare(config_, false); }), "--vocab");
  EXPECT_FALSE(fs::exists(config_.out));
}

TEST_F(Compare, RowsWithoutALabelAreFineTuningsToReport) {
  std::ofstream(directory_ / "data/manifest.jsonl", std::ios::app)
      << R"({"id": "bare", "image": "images/s1.png", "text": "red", "split": "test"})" << '\n';
  config_.methods = {"text-only"};
  config_.fractions = {1};
  EXPECT_CONTAINS(message_of([&] { compare(config_, false); }), "sample bare has no label");
  config_.finetune.input.on_bad_sample = BadSample::skip;
  EXPECT_EQ(compare(config_, true).at("dataset").at("test"), 7);
}

TEST_F(Compare, PretrainingCanBeShared) {
  config_.methods = {"component"};
  config_.text_objective = "mlm";
  config_.text.mask_probability = 0.4;
  config_.share_pretraining = true;
  config_.fractions = {1};
  const Json report = compare(config_, false);
  EXPECT_EQ(pretrained(), (std::vector<std::string>{"text-shared", "vision-shared"}));
  ASSERT_EQ(report.at("cells").size(), 2u);
  for (const Json& cell : report.at("cells")) {
    EXPECT_EQ(cell.at("stages")[0].at("shared"), true);
    EXPECT_EQ(cell.at("stages")[2].at("shared"), false);
    EXPECT_EQ(cell.at("samples_seen"), 20 + 30 + 30);
  }
  EXPECT_EQ(report.at("share_pretraining"), true);
}

// A given model takes the place of its first stage: nothing is pretrained, and the report says where it came from.
TEST_F(Compare, GivenModelsTakeThePlaceOfAFirstStage) {
  config_.methods = {"component"};
  config_.fractions = {1};
  config_.seeds = 1;
  compare(config_, false);
  CompareConfig given = config_;
  given.out = directory_ / "given";
  given.vision_from = config_.out + "/pretrain/vision-seed" + std::to_string(config_.finetune.options.seed) + "/model";
  given.text_from = config_.out + "/pretrain/text-seed" + std::to_string(config_.finetune.options.seed) + "/model";
  given.finetune.vocab.clear();  // nothing starts from scratch
  const Json report = compare(given, false), before = read_json(config_.out + "/report.json");
  EXPECT_FALSE(fs::exists(given.out + "/pretrain"));
  EXPECT_EQ(report.at("given_models").at("text"), given.text_from);
  ASSERT_EQ(report.at("cells")[0].at("stages").size(), 1u);
  EXPECT_EQ(report.at("cells")[0].at("accuracy"), before.at("cells")[0].at("accuracy"));
  EXPECT_EQ(report.at("cells")[0].at("loss"), before.at("cells")[0].at("loss"));
}

TEST_F(Compare, RefusesWhatItCannotRun) {
  const auto refused = [&](auto&& change) {
    CompareConfig c = config_;
    change(c);
    return message_of([&] { compare(c, false); });
  };
  EXPECT_CONTAINS(refused([](CompareConfig& c) { c.seeds = 0; }), "--seeds must be at least 1, got 0");
  EXPECT_CONTAINS(refused([](CompareConfig& c) { c.fractions = {0.5, 2}; }), "fraction 2 is not in (0, 1]");
  EXPECT_CONTAINS(refused([](CompareConfig& c) { c.fractions.clear(); }), "--fractions needs at least one value");
  EXPECT_CONTAINS(refused([](CompareConfig& c) { c.methods = {"half"}; }), "unknown method \"half\"");
  write_tiny_dataset(directory_ / "other", 10, 5, 0);
  EXPECT_CONTAINS(refused([&](CompareConfig& c) { c.finetune.data = {directory_ / "other"}; }), "\"test\"");
  EXPECT_FALSE(fs::exists(config_.out));
}

}  // namespace
}  // namespace duet::train
