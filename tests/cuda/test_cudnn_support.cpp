#include <gtest/gtest.h>

#include <set>

#include "device_descriptions.h"
#include "duet/cuda/cudnn_attention.h"

namespace duet::cuda {
namespace {

using duet::testing::DeviceDescription;

// cuDNN is asked about devices that are not here; nothing runs.
class CudnnSupport : public ::testing::TestWithParam<DeviceDescription> {
 protected:
  // Every combination of masked and deterministic, in training.
  void expect_supported(int64_t batch, int64_t heads, int64_t tokens, int64_t head_size) {
    for (const bool masked : {false, true}) {
      for (const bool deterministic : {false, true}) {
        const AttentionSupport support = check_on_described_device(
            {batch, heads, tokens, head_size, masked, deterministic, true}, GetParam().json());
        EXPECT_EQ(support.refusal, "");
        EXPECT_NE(support.forward, "");
        EXPECT_NE(support.backward, "");
        EXPECT_GE(support.backward_workspace, 0);
        forward_.insert(support.forward);
        (deterministic ? deterministic_backward_ : backward_).insert(support.backward);
      }
    }
  }
  void TearDown() override {
    const auto print = [](const char* what, const std::set<std::string>& engines) {
      std::cout << "  " << what << ":";
      for (const std::string& engine : engines) std::cout << " [" << engine << "]";
      std::cout << "\n";
    };
    if (forward_.empty()) return;
    print("forward", forward_);
    print("backward", backward_);
    print("deterministic backward", deterministic_backward_);
  }
  std::set<std::string> forward_, backward_, deterministic_backward_;
};

TEST_P(CudnnSupport, BaseModels) {
  for (const int64_t batch : {8, 64, 256}) {
    expect_supported(batch, 12, 197, 64);
    expect_supported(batch, 12, 128, 64);
  }
}

TEST_P(CudnnSupport, TinyModels) {
  for (const int64_t heads : {3, 4})
    for (const int64_t tokens : {197, 64}) expect_supported(8, heads, tokens, 64);
}

TEST_P(CudnnSupport, RaggedShapes) {
  for (const int64_t batch : {1, 3})
    for (const int64_t tokens : {2, 7, 50, 197, 512}) expect_supported(batch, 3, tokens, 64);
}

TEST_P(CudnnSupport, HeadSizes) {
  for (const int64_t head_size : {8, 16, 32, 40, 128}) expect_supported(2, 2, 65, head_size);
}

TEST_P(CudnnSupport, KernelsAreMade) {
  for (const bool masked : {false, true}) {
    for (const bool deterministic : {false, true}) {
      const AttentionProblem problem = {8, 12, masked ? 128 : 197, 64, masked, deterministic, true};
      EXPECT_EQ(check_on_described_device(problem, GetParam().json(), true).refusal, "");
    }
  }
}

TEST_P(CudnnSupport, InferenceNeedsNoBackward) {
  const AttentionSupport support = check_on_described_device({8, 12, 197, 64, true, true, false}, GetParam().json());
  EXPECT_EQ(support.refusal, "");
  EXPECT_NE(support.forward, "");
  EXPECT_EQ(support.backward, "");
}

// Without atomic additions, the deterministic backward keeps the gradient of the scores (bf16) instead.
TEST_P(CudnnSupport, DeterministicBackwardTakesMoreWorkspace) {
  const std::string json = GetParam().json();
  const AttentionSupport fast = check_on_described_device({8, 12, 197, 64, false, false, true}, json);
  const AttentionSupport same = check_on_described_device({8, 12, 197, 64, false, true, true}, json);
  EXPECT_GE(same.backward_workspace, 8 * 12 * 197 * 197 * 2);
  EXPECT_LT(fast.backward_workspace, same.backward_workspace);
}

INSTANTIATE_TEST_SUITE_P(, CudnnSupport,
                         ::testing::Values(duet::testing::a100, duet::testing::h100, duet::testing::h200,
                                           duet::testing::b200),
                         [](const auto& test) {
                           const std::string name = test.param.name;
                           for (const char* chip : {"A100", "H100", "H200", "B200"})
                             if (name.find(chip) != std::string::npos) return std::string(chip);
                           return std::string("other");
                         });

std::string refusal(const AttentionProblem& problem, const DeviceDescription& device = duet::testing::h100) {
  return check_on_described_device(problem, device.json()).refusal;
}

TEST(CudnnRefusal, SaysWhy) {
  EXPECT_NE(refusal({8, 12, 197, 7, false, true, true}).find("multiple of 8, not 7"), std::string::npos);
  EXPECT_NE(refusal({8, 12, 197, 136, false, true, true}).find("at most 128, not 136"), std::string::npos);
  EXPECT_NE(refusal({8, 12, 1, 64, false, true, true}).find("single token"), std::string::npos);
  EXPECT_NE(refusal({0, 12, 197, 64, false, true, true}).find("at least 1"), std::string::npos);
}

TEST(CudnnRefusal, IsCudnnsOwnForADeviceBeforeBf16) {
  const std::string reason = refusal({8, 12, 197, 64, false, true, true}, duet::testing::v100);
  EXPECT_NE(reason.find("no engine"), std::string::npos) << reason;
  EXPECT_NE(reason.find("(batch 8, heads 12, tokens 197, head size 64, deterministic)"), std::string::npos) << reason;
}

TEST(CudnnRefusal, AMalformedDescriptionIsAnError) {
  EXPECT_THROW(check_on_described_device({8, 12, 197, 64, false, true, true}, "{\"deviceName\":"), CudnnError);
}

}  // namespace
}  // namespace duet::cuda
