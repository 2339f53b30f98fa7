#include "duet/train/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>

#include "duet/core/file.h"
#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

NamedTensors tensors_of(int64_t step) {
  const auto v = static_cast<float>(step);
  return {{"parameter.w", Tensor::from<float>({2, 2}, {v + 0.1f, -0.f, 1e-42f, 3e38f})},
          {"exp_avg.w", Tensor::from<double>({2}, {1.0 / 3, 1e300})},
          {"empty", Tensor::zeros({0, 4}, DType::f32)}};
}

Json state_of(int64_t step) {
  return {{"loss", 1.0 / (3 + static_cast<double>(step))}, {"note", "ünïcode"}};
}

class Checkpoints : public ::testing::Test {
 protected:
  void save(std::initializer_list<int64_t> steps) {
    for (const int64_t s : steps) checkpoints_.save(s, tensors_of(s), state_of(s));
  }
  std::string file(int64_t step, const std::string& name) {
    return path_ + "/step-" + std::to_string(step) + "/" + name;
  }
  void rewrite(const std::string& path, const std::function<void(std::string&)>& change) {
    std::string bytes = read_file(path);
    change(bytes);
    std::ofstream(path, std::ios::binary) << bytes;  // without the flush to the disk, which tests do not need
  }
  // The newest usable checkpoint's step, and the warnings on the way to it.
  int64_t newest() {
    warnings_.clear();
    const auto loaded = checkpoints_.load_newest([&](const std::string& line) { warnings_.push_back(line); });
    return loaded ? loaded->step : -1;
  }
  void expect_falls_back_to_1(const std::string& reason) {
    EXPECT_EQ(newest(), 1);
    ASSERT_EQ(warnings_.size(), 1u);
    EXPECT_CONTAINS(warnings_[0], "step-2 cannot be used");
    EXPECT_CONTAINS(warnings_[0], reason);
  }

  TemporaryDirectory directory_;
  std::string path_ = directory_ / "checkpoints";
  CheckpointDirectory checkpoints_{path_};
  std::vector<std::string> warnings_;
};

TEST_F(Checkpoints, RoundTripToTheBit) {
  save({12});
  const auto loaded = checkpoints_.load(12);
  EXPECT_EQ(loaded.step, 12);
  EXPECT_EQ(loaded.state.at("loss"), state_of(12).at("loss"));
  EXPECT_EQ(loaded.state.at("note"), "ünïcode");
  ASSERT_EQ(loaded.tensors.size(), 3u);
  std::map<std::string, Tensor> by_name(loaded.tensors.begin(), loaded.tensors.end());
  for (const auto& [name, tensor] : tensors_of(12)) {
    const Tensor& found = by_name.at(name);
    EXPECT_EQ(found.dtype(), tensor.dtype());
    EXPECT_EQ(text(found.shape()), text(tensor.shape()));
    EXPECT_TRUE(tensor.bytes() == 0 || std::memcmp(found.raw(), tensor.raw(), tensor.bytes()) == 0) << name;
  }
}

TEST_F(Checkpoints, NewestIsByNumberNotByName) {
  save({9, 10, 2});
  write_file_atomically(path_ + "/step-", "");
  write_file_atomically(path_ + "/step-11x", "");
  write_file_atomically(path_ + "/step-99999999999999999999", "");
  EXPECT_EQ(checkpoints_.steps(), (std::vector<int64_t>{2, 9, 10}));
  EXPECT_EQ(newest(), 10);
}

TEST_F(Checkpoints, SavingAStepAgainReplacesIt) {
  save({1});
  checkpoints_.save(1, tensors_of(5), {{"loss", 5}});
  EXPECT_EQ(checkpoints_.load(1).state.at("loss"), 5);
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), fs::directory_iterator()), 1);
}

TEST_F(Checkpoints, TruncatedTensors) {
  save({1, 2});
  rewrite(file(2, "tensors.safetensors"), [](std::string& bytes) { bytes.resize(bytes.size() - 5); });
  expect_falls_back_to_1("does not match its checksum");
  EXPECT_CONTAINS(message_of([&] { checkpoints_.load(2); }), file(2, "tensors.safetensors"));
}

TEST_F(Checkpoints, AnyFlippedBitIsNoticed) {
  for (const char* name : {"tensors.safetensors", "state.json"}) {
    save({1, 2});
    const std::string good = read_file(file(2, name));
    for (size_t i = 0; i < good.size(); ++i) {
      rewrite(file(2, name), [&](std::string& bytes) {
        bytes = good;
        bytes[i] = static_cast<char>(bytes[i] ^ 4);
      });
      EXPECT_EQ(newest(), 1) << name << " byte " << i;
    }
    rewrite(file(2, name), [&](std::string& bytes) { bytes = good; });
    EXPECT_EQ(newest(), 2);
  }
}

TEST_F(Checkpoints, MissingOrWrongState) {
  save({1, 2});
  fs::remove(file(2, "state.json"));
  expect_falls_back_to_1("state.json: No such file");
  write_file_atomically(file(2, "state.json"), "{\"step\": 2");
  expect_falls_back_to_1("state.json");
  write_file_atomically(file(2, "state.json"), "[]");
  expect_falls_back_to_1("is not the state of step 2");
  fs::copy_file(file(1, "state.json"), file(2, "state.json"), fs::copy_options::overwrite_existing);
  expect_falls_back_to_1("is not the state of step 2");
  fs::remove(file(2, "tensors.safetensors"));
  save({2});
  fs::remove(file(2, "tensors.safetensors"));
  expect_falls_back_to_1("tensors.safetensors: No such file");
}

TEST_F(Checkpoints, NothingUsable) {
  EXPECT_EQ(newest(), -1);
  EXPECT_TRUE(warnings_.empty());
  save({1, 2});
  for (const int64_t s : {1, 2}) fs::remove(file(s, "state.json"));
  EXPECT_EQ(newest(), -1);
  ASSERT_EQ(warnings_.size(), 2u);
  EXPECT_CONTAINS(warnings_[1], "step-1 cannot be used");
}

TEST_F(Checkpoints, OpeningRemovesWhatAKilledProcessWasWriting) {
  save({1});
  make_directories(path_ + "/.tmp-step-2");
  write_file_atomically(path_ + "/.tmp-step-2/tensors.safetensors", "half");
  make_directories(path_ + "/.tmp-old-0");
  const CheckpointDirectory again(path_);
  EXPECT_EQ(again.steps(), (std::vector<int64_t>{1}));
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), fs::directory_iterator()), 1);
}

TEST_F(Checkpoints, PruneKeepsTheNewestAndTheBest) {
  save({1, 2, 3, 4, 5});
  checkpoints_.prune(2, {2});
  EXPECT_EQ(checkpoints_.steps(), (std::vector<int64_t>{2, 4, 5}));
  checkpoints_.prune(2, {5});
  EXPECT_EQ(checkpoints_.steps(), (std::vector<int64_t>{4, 5}));
  checkpoints_.prune(3, {});
  EXPECT_EQ(checkpoints_.steps(), (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), fs::directory_iterator()), 2);
}

TEST_F(Checkpoints, SetAsideAfter) {
  save({1, 2, 3});
  checkpoints_.set_aside_after(1);
  EXPECT_EQ(checkpoints_.steps(), (std::vector<int64_t>{1}));
  EXPECT_TRUE(fs::exists(path_ + "/damaged-step-3/state.json"));
  save({3});
  checkpoints_.set_aside_after(2);  // over the one set aside before
  EXPECT_EQ(checkpoints_.steps(), (std::vector<int64_t>{1}));
}

TEST_F(Checkpoints, AFullDiskLeavesTheOldOnes) {
  save({1});
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 64;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = message_of([&] { save({2}); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_CONTAINS(message, "cannot save step 2 under " + path_);
  EXPECT_CONTAINS(message, "File too large");
  EXPECT_EQ(newest(), 1);
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), fs::directory_iterator()), 1);
}

TEST_F(Checkpoints, AnUnwritableDirectoryLeavesTheOldOnes) {
  save({1});
  fs::permissions(path_, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::group_read | fs::perms::group_exec |
                             fs::perms::others_read | fs::perms::others_exec);
  const bool root = ::geteuid() == 0;
  if (root && ::seteuid(65534) != 0) GTEST_SKIP() << "root may write everywhere";
  const std::string message = message_of([&] { save({2}); });
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  fs::permissions(path_, fs::perms::owner_all);
  EXPECT_CONTAINS(message, "cannot save step 2 under " + path_);
  EXPECT_CONTAINS(message, "Permission denied");
  EXPECT_EQ(newest(), 1);
}

}  // namespace
}  // namespace duet::train
