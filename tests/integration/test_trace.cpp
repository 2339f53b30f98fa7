#include <gtest/gtest.h>

#include <set>

#include "duet/tests/integration/tiny_data.h"

// Time lines of training runs.
namespace duet::testing {
namespace {

class TrainingTrace : public ::testing::Test {
 protected:
  // How often each name occurs among the complete events of a category.
  std::map<std::string, int> names(const std::string& category) const {
    std::map<std::string, int> found;
    const Json trace = read_json(path_);
    for (const Json& e : trace.at("traceEvents"))
      if (e.at("ph") == "X" && e.at("cat") == category) ++found[e.at("name")];
    return found;
  }
  std::set<std::string> threads() const {
    std::set<std::string> found;
    const Json trace = read_json(path_);
    for (const Json& e : trace.at("traceEvents"))
      if (e.at("name") == "thread_name") found.insert(e.at("args").at("name"));
    return found;
  }

  TinyData data_;
  const std::string out_ = data_ / "run", path_ = data_ / "trace.json";
};

TEST_F(TrainingTrace, HoldsTheSecondToFifthStep) {
  const Finished f = run(data_.finetuning(out_, {"--steps", "8", "--trace", path_, "--eval-every", "3"}));
  ASSERT_EQ(f.status, 0) << f.err;
  const auto phases = names("phase");
  for (const char* phase : {"step", "data", "forward", "backward", "clip", "optimizer"})
    EXPECT_EQ(phases.at(phase), 4) << phase;
  EXPECT_EQ(phases.at("evaluation"), 1);  // after the third
  EXPECT_EQ(names("update").at("adam"), 4);
  EXPECT_GT(names("backward").at("linear"), 0);
  EXPECT_EQ(threads().count("main"), 1u);
}

TEST_F(TrainingTrace, ShowsBatchesMadeByTheComputeThreads) {
  const Finished f = run(data_.finetuning(
      out_, {"--steps", "8", "--batch", "2", "--workers", "auto", "--threads", "2", "--trace", path_}));
  ASSERT_EQ(f.status, 0) << f.err;
  const auto work = names("data");
  EXPECT_EQ(work.at("batch"), 4);
  EXPECT_EQ(work.at("decode"), 8);
  EXPECT_EQ(threads().count("loader 0"), 0u);
}

TEST_F(TrainingTrace, MicroBatchesHavePhasesToo) {
  const Finished f = run(data_.finetuning(out_, {"--steps", "3", "--accumulate", "2", "--trace", path_}));
  ASSERT_EQ(f.status, 0) << f.err;
  const auto phases = names("phase");
  EXPECT_EQ(phases.at("step"), 2);  // the run is that short
  EXPECT_EQ(phases.at("forward"), 4);
  EXPECT_EQ(phases.at("backward"), 4);
  EXPECT_EQ(phases.at("clip"), 2);
  EXPECT_EQ(phases.at("optimizer"), 2);
}

TEST_F(TrainingTrace, ChangesNoNumber) {
  ASSERT_EQ(run(data_.finetuning(out_, {"--steps", "6", "--trace", path_})).status, 0);
  const std::string other = data_ / "untraced";
  ASSERT_EQ(run(data_.finetuning(other, {"--steps", "6"})).status, 0);
  EXPECT_EQ(weights(out_), weights(other));
}

TEST_F(TrainingTrace, IsValidAfterAnInterrupt) {
  Process process(data_.finetuning(out_, {"--steps", "100000", "--trace", path_}));
  ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(out_ + "/metrics.jsonl"); }));
  process.send(SIGINT);
  const Finished f = process.wait();
  ASSERT_EQ(f.status, 130) << f.err;
  EXPECT_GE(read_json(path_).at("traceEvents").size(), 1u);
}

TEST_F(TrainingTrace, ThatCannotBeWrittenIsAnErrorBeforeTheRun) {
  const Finished f = run(data_.finetuning(out_, {"--steps", "6", "--trace", data_ / "missing/trace.json"}));
  EXPECT_EQ(f.status, 1);
  EXPECT_NE(f.err.find("missing/trace.json: No such file or directory"), std::string::npos) << f.err;
  EXPECT_FALSE(std::filesystem::exists(out_));
}

}  // namespace
}  // namespace duet::testing
