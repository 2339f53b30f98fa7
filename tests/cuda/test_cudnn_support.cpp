#include <gtest/gtest.h>

#include <array>
#include <set>

#include "device_descriptions.h"
#include "duet/cuda/cudnn_attention.h"
#include "duet/cuda/cudnn_layer_norm.h"

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

TEST_P(CudnnSupport, LayerNorm) {
  const std::string json = GetParam().json();
  for (const bool backward : {false, true})
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const int64_t width : {768, 192, 96})
        for (const int64_t rows : {256 * 197, 21}) {
          // Making the kernels takes a second.
          const bool compile = width == 768 && rows == 21 && dtype == DType::bf16;
          const LayerNormSupport support =
              check_on_described_device({backward, dtype, rows, width, backward ? 0 : 1e-6f, true}, json, compile);
          EXPECT_EQ(support.refusal, "");
          EXPECT_NE(support.engine, "");
        }
}

TEST(CudnnEngine, KeepsWhatItIsAskedFor) {
  CudnnEngine engine{CudnnDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR), "", 0, {}};
  EXPECT_TRUE(engine.keeps(CUDNN_DATA_FLOAT, true));
  engine.notes.set(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  EXPECT_FALSE(engine.keeps(CUDNN_DATA_FLOAT, true));
  EXPECT_TRUE(engine.keeps(CUDNN_DATA_BFLOAT16, true));
  engine.notes.set(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
  EXPECT_FALSE(engine.keeps(CUDNN_DATA_BFLOAT16, true));
  EXPECT_TRUE(engine.keeps(CUDNN_DATA_BFLOAT16, false));
  for (const auto note : {CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
                          CUDNN_NUMERICAL_NOTE_FFT, CUDNN_NUMERICAL_NOTE_WINOGRAD}) {
    engine.notes.reset();
    engine.notes.set(note);
    EXPECT_FALSE(engine.keeps(CUDNN_DATA_BFLOAT16, false)) << note;
  }
}

// A convolution of patches: images (B, C, H, H), weight (D, C, p, p), projected (B, N, D) in the engine's layout.
struct PatchConvolution {
  int64_t batch, channels, size, patch, width;

  // The graph of `type`, whose operation names its tensors, its convolution, alpha and beta as in `names`.
  void make(CudnnGraph& graph, cudnnBackendDescriptorType_t type, const std::array<int, 6>& names,
            cudnnDataType_t weight_type) const {
    const auto tensor = [](int64_t id, const Dims& dims, const Dims& strides, cudnnDataType_t dtype) {
      CudnnDescriptor t(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
      t.set(CUDNN_ATTR_TENSOR_DATA_TYPE, dtype);
      t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data());
      t.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data());
      t.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
      t.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{16});
      t.finalize();
      return t;
    };
    const int64_t side = size / patch;
    const Dims image{batch, channels, size, size}, weight{width, channels, patch, patch};
    const CudnnDescriptor x = tensor(1, image, row_major(image), CUDNN_DATA_BFLOAT16);
    const CudnnDescriptor w = tensor(2, weight, row_major(weight), weight_type);
    const CudnnDescriptor y =
        tensor(3, {batch, width, side, side}, {side * side * width, 1, side * width, width}, CUDNN_DATA_BFLOAT16);
    constexpr cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const std::array<int64_t, 2> none{0, 0}, one{1, 1}, stride{patch, patch};
    CudnnDescriptor setting(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    setting.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    setting.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    setting.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2});
    setting.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, none.data());
    setting.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, none.data());
    setting.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, one.data());
    setting.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride.data());
    setting.finalize();
    CudnnDescriptor node(type);
    const auto name = [&](size_t i) { return static_cast<cudnnBackendAttributeName_t>(names[i]); };
    node.set(name(0), x);
    node.set(name(1), w);
    node.set(name(2), y);
    node.set(name(3), setting);
    constexpr float whole = 1, nothing = 0;
    node.set(name(4), CUDNN_TYPE_FLOAT, 1, &whole);
    node.set(name(5), CUDNN_TYPE_FLOAT, 1, &nothing);
    node.finalize();
    graph.add(std::move(node));
    graph.finalize(nullptr);
  }
  CudnnGraph forward() const {
    CudnnGraph graph;
    make(graph, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
         {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
         CUDNN_DATA_BFLOAT16);
    return graph;
  }
  CudnnGraph weight_gradient(cudnnDataType_t type) const {
    CudnnGraph graph;
    make(graph, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
         type);
    return graph;
  }
};

// Why patches are gathered and multiplied (ops/patch_embedding.cpp) instead of convolved: cuDNN gives the gradient of
// the weight in bfloat16 only, and its convolutions of three channels rearrange the images in a workspace of more bytes
// than the gathered patches. Should this fail with a newer cuDNN, the decision is to be made again.
TEST_P(CudnnSupport, PatchConvolutionDoesNotFit) {
  const CudnnDescriptor device = describe_device(GetParam().json());
  const PatchConvolution base{256, 3, 224, 16, 768};
  EXPECT_FALSE(find_engines(base.weight_gradient(CUDNN_DATA_BFLOAT16), &device).empty());
  const CudnnGraph in_float = base.weight_gradient(CUDNN_DATA_FLOAT);
  try {
    find_engines(in_float, &device);
    ADD_FAILURE() << "there is an engine now";
  } catch (const CudnnError& error) {
    EXPECT_TRUE(error.not_supported()) << error.what();
  }
  const CudnnEngine forward = std::move(find_engines(base.forward(), &device).front());
  const int64_t patches = base.batch * base.channels * base.size * base.size * 2;
  EXPECT_GT(forward.workspace, 2 * patches);
  std::cout << "  convolution forward: " << forward.name << " takes a workspace of " << forward.workspace
            << " bytes; patches have " << patches << "\n";
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
