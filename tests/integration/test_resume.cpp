#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "duet/tests/integration/tiny_data.h"

namespace duet::testing {
namespace {

namespace fs = std::filesystem;

size_t metrics_lines(const std::string& run) {
  if (!fs::exists(run + "/metrics.jsonl")) return 0;
  const std::string bytes = read_file(run + "/metrics.jsonl");
  return static_cast<size_t>(std::count(bytes.begin(), bytes.end(), '\n'));
}

std::vector<std::string> checkpoints(const std::string& run) {
  std::vector<std::string> found;
  if (fs::exists(run + "/checkpoints"))
    for (const auto& entry : fs::directory_iterator(run + "/checkpoints"))
      if (entry.path().filename().string().starts_with("step-")) found.push_back(entry.path());
  return found;
}

// Names in a directory that a stopped process may have left behind.
std::vector<std::string> leftovers(const std::string& directory) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.path().filename().string().find(".tmp-") != std::string::npos) found.push_back(entry.path());
  return found;
}

class Resume : public ::testing::Test {
 protected:
  // The run that nothing disturbs.
  void run_reference(const std::vector<std::string>& options) {
    const Finished f = run(data_.finetuning(reference_, options));
    ASSERT_EQ(f.status, 0) << f.err;
  }
  void expect_same_as_reference(const std::string& out) {
    EXPECT_TRUE(weights(out) == weights(reference_)) << "the weights differ";
    EXPECT_EQ(timeless_metrics(out), timeless_metrics(reference_));
    EXPECT_EQ(leftovers(out), std::vector<std::string>{});
  }
  static std::vector<std::string> with(std::vector<std::string> options, const std::string& more) {
    options.push_back(more);
    return options;
  }

  TinyData data_;
  const std::string reference_ = data_ / "reference", out_ = data_ / "run";
};

TEST_F(Resume, TwentyKillsChangeNothing) {
  const std::vector<std::string> options{"--steps", "150", "--save-every", "3", "--seed", "5"};
  run_reference(options);
  std::mt19937 random(20);
  const auto below = [&](unsigned n) { return random() % n; };
  int in_training = 0;
  for (int kill = 0; kill < 20; ++kill) {
    const size_t before = metrics_lines(out_);
    Process process(data_.finetuning(out_, with(options, "--resume")));
    // A quarter during the start, the others some steps and a moment later: in a step, a checkpoint or a validation.
    if (kill % 4 == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(below(120)));
    } else {
      const size_t target = (before > 4 ? before - 4 : 0) + 1 + below(9);
      ASSERT_TRUE(wait_until([&] { return !process.running() || metrics_lines(out_) >= target; }));
      std::this_thread::sleep_for(std::chrono::microseconds(below(15000)));
    }
    process.send(SIGKILL);
    const Finished f = process.wait();
    if (f.signal == SIGKILL)
      in_training += kill % 4 != 0;
    else
      ASSERT_EQ(f.status, 0) << f.err;  // it was faster than the kill
  }
  EXPECT_GE(in_training, 8);
  const Finished f = run(data_.finetuning(out_, with(options, "--resume")));
  ASSERT_EQ(f.status, 0) << f.err;
  expect_same_as_reference(out_);
}

TEST_F(Resume, InterruptsLeaveACheckpointAndOneLine) {
  const std::vector<std::string> options{"--steps", "300", "--save-every", "50"};
  run_reference(options);
  for (const int signal : {SIGINT, SIGTERM}) {
    fs::remove_all(out_);
    Process process(data_.finetuning(out_, options));
    ASSERT_TRUE(wait_until([&] { return metrics_lines(out_) >= 5; }));
    process.send(signal);
    const Finished stopped = process.wait();
    ASSERT_EQ(stopped.status, 130) << stopped.err;
    ASSERT_EQ(stopped.error_lines().size(), 1u) << stopped.err;
    EXPECT_NE(stopped.err.find("interrupted at step "), std::string::npos) << stopped.err;
    EXPECT_NE(stopped.err.find("--resume"), std::string::npos) << stopped.err;
    EXPECT_FALSE(checkpoints(out_).empty());
    EXPECT_FALSE(fs::exists(out_ + "/model"));

    // Without --resume nothing is overwritten.
    const Finished refused = run(data_.finetuning(out_, options));
    EXPECT_EQ(refused.status, 1);
    EXPECT_NE(refused.err.find("already holds checkpoints"), std::string::npos) << refused.err;

    const Finished f = run(data_.finetuning(out_, with(options, "--resume")));
    ASSERT_EQ(f.status, 0) << f.err;
    EXPECT_NE(f.err.find("resuming after step "), std::string::npos) << f.err;
    expect_same_as_reference(out_);
  }
}

TEST_F(Resume, Bfloat16OnTwoThreadsGoesOnToTheBit) {
  const std::vector<std::string> options{"--steps", "200",      "--save-every", "7",
                                         "--dtype", "bfloat16", "--threads",    "2"};
  run_reference(options);
  Process process(data_.finetuning(out_, options));
  ASSERT_TRUE(wait_until([&] { return metrics_lines(out_) >= 6; }));
  process.send(SIGTERM);
  ASSERT_EQ(process.wait().status, 130);
  ASSERT_EQ(run(data_.finetuning(out_, with(options, "--resume"))).status, 0);
  expect_same_as_reference(out_);
}

TEST_F(Resume, ASecondSignalEndsAtOnce) {
  const std::vector<std::string> options{"--steps", "300", "--save-every", "10"};
  run_reference(options);
  Process process(data_.finetuning(out_, options));
  ASSERT_TRUE(wait_until([&] { return metrics_lines(out_) >= 15; }));
  process.send(SIGINT);
  process.send(SIGTERM);  // two of a kind would be delivered as one
  const Finished stopped = process.wait();
  EXPECT_EQ(stopped.status, 130);
  EXPECT_EQ(stopped.error_lines().size(), 0u) << stopped.err;
  ASSERT_EQ(run(data_.finetuning(out_, with(options, "--resume"))).status, 0);
  expect_same_as_reference(out_);
}

TEST_F(Resume, NothingToResumeIsAStart) {
  const std::vector<std::string> options{"--steps", "4"};
  run_reference(options);
  ASSERT_EQ(run(data_.finetuning(out_, with(options, "--resume"))).status, 0);
  expect_same_as_reference(out_);
  // And a finished run stays as it is.
  ASSERT_EQ(run(data_.finetuning(out_, with(options, "--resume"))).status, 0);
  expect_same_as_reference(out_);
}

TEST_F(Resume, OtherOptionsAreRefused) {
  ASSERT_EQ(run(data_.finetuning(out_, {"--steps", "4"})).status, 0);
  const Finished f = run(data_.finetuning(out_, {"--steps", "4", "--lr", "0.5", "--resume"}));
  EXPECT_EQ(f.status, 1);
  ASSERT_EQ(f.error_lines().size(), 1u) << f.err;
  EXPECT_NE(f.err.find("lr"), std::string::npos) << f.err;
}

TEST_F(Resume, ADamagedCheckpointIsNamedAndTheOneBeforeUsed) {
  const std::vector<std::string> options{"--steps", "12", "--save-every", "3", "--keep", "3"};
  run_reference(options);
  const auto damage = [&](const std::string& file, auto change) {
    fs::remove_all(out_);
    ASSERT_EQ(run(data_.finetuning(out_, options)).status, 0);
    const std::string path = out_ + "/checkpoints/step-12/" + file;
    std::string bytes = read_file(path);
    change(bytes);
    write_file_atomically(path, bytes);
    fs::remove_all(out_ + "/model");
    const Finished f = run(data_.finetuning(out_, with(options, "--resume")));
    ASSERT_EQ(f.status, 0) << f.err;
    EXPECT_NE(f.err.find("step-12 cannot be used"), std::string::npos) << f.err;
    EXPECT_NE(f.err.find("resuming after step 9 "), std::string::npos) << f.err;
    expect_same_as_reference(out_);
  };
  damage("tensors.safetensors", [](std::string& bytes) { bytes[bytes.size() / 2] ^= 1; });
  damage("tensors.safetensors", [](std::string& bytes) { bytes.resize(bytes.size() / 2); });
  damage("state.json", [](std::string& bytes) { bytes.resize(bytes.size() / 2); });
  damage("state.json", [](std::string& bytes) { bytes.clear(); });
}

TEST_F(Resume, SameSeedSameBitsForAnyNumberOfWorkers) {
  const std::vector<std::string> options{"--steps", "15", "--augment", "basic", "--dropout", "0.1", "--seed", "3"};
  run_reference(options);
  for (const char* workers : {"0", "1", "3"}) {
    std::vector<std::string> more = options;
    more.insert(more.end(), {"--workers", workers});
    const Finished f = run(data_.finetuning(out_, more));
    ASSERT_EQ(f.status, 0) << f.err;
    expect_same_as_reference(out_);
    fs::remove_all(out_);
  }
  std::vector<std::string> other = options;
  other.back() = "4";
  ASSERT_EQ(run(data_.finetuning(out_, other)).status, 0);
  EXPECT_NE(timeless_metrics(out_), timeless_metrics(reference_));
}

TEST_F(Resume, AFullDiskLeavesEarlierCheckpointsWhole) {
  const std::vector<std::string> options{"--steps", "300", "--save-every", "40", "--keep", "5"};
  run_reference(options);
  Process process(data_.finetuning(out_, options));
  ASSERT_TRUE(wait_until([&] { return metrics_lines(out_) >= 5; }));
  process.send(SIGTERM);
  ASSERT_EQ(process.wait().status, 130);
  const std::vector<std::string> before = checkpoints(out_);
  ASSERT_FALSE(before.empty());
  const auto whole = fs::file_size(before[0] + "/tensors.safetensors");

  const Finished full = run(data_.finetuning(out_, with(options, "--resume")), {.largest_file = whole - 1000});
  EXPECT_EQ(full.status, 1) << full.err;
  ASSERT_EQ(full.error_lines().size(), 1u) << full.err;
  EXPECT_NE(full.err.find("File too large"), std::string::npos) << full.err;
  EXPECT_NE(full.err.find(out_), std::string::npos) << full.err;
  EXPECT_EQ(leftovers(out_), std::vector<std::string>{});
  EXPECT_FALSE(fs::exists(out_ + "/model"));
  for (const std::string& kept : before) EXPECT_TRUE(fs::exists(kept + "/state.json")) << kept;
  for (const std::string& kept : checkpoints(out_)) EXPECT_EQ(fs::file_size(kept + "/tensors.safetensors"), whole);

  ASSERT_EQ(run(data_.finetuning(out_, with(options, "--resume"))).status, 0);
  expect_same_as_reference(out_);
}

TEST_F(Resume, AComparisonGoesOnWhereItStopped) {
  const auto compare = [&](const std::string& out, const std::string& resume = "--json") {
    std::vector<std::string> more{"--seeds",       "1",  "--methods",      "whole,component",
                                  "--steps",       "30", "--vision-steps", "30",
                                  "--joint-steps", "30", "--text-steps",   "30"};
    if (resume == "--resume") more.push_back(resume);
    return data_.training({"compare"}, out, more);
  };
  const Finished whole = run(compare(reference_));
  ASSERT_EQ(whole.status, 0) << whole.err;

  Process process(compare(out_));
  ASSERT_TRUE(wait_until([&] { return process.err().find("cell 2/2") != std::string::npos; }, 60));
  process.send(SIGINT);
  const Finished stopped = process.wait();
  ASSERT_EQ(stopped.status, 130) << stopped.err;
  EXPECT_EQ(stopped.error_lines().size(), 1u) << stopped.err;
  EXPECT_FALSE(fs::exists(out_ + "/report.json"));

  const Finished refused = run(compare(out_));
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("already holds a comparison"), std::string::npos) << refused.err;

  const Finished f = run(compare(out_, "--resume"));
  ASSERT_EQ(f.status, 0) << f.err;
  const auto cells = [](const std::string& out) {
    std::map<std::string, Json> all;
    for (const auto& entry : fs::directory_iterator(out + "/cells")) {
      Json cell = read_json(entry.path().string() + "/cell.json"), kept;
      for (const char* key :
           {"method", "seed", "fraction", "accuracy", "macro_f1", "loss_per_epoch", "samples_seen", "flops"})
        kept[key] = cell.at(key);
      all[entry.path().filename()] = kept;
    }
    return all;
  };
  EXPECT_EQ(cells(out_).size(), 2u);
  EXPECT_EQ(cells(out_), cells(reference_));
  EXPECT_EQ(read_json(out_ + "/report.json").at("cells").size(), 2u);
  EXPECT_TRUE(fs::exists(out_ + "/report.html"));
}

}  // namespace
}  // namespace duet::testing
