#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "duet/cuda/cudnn_attention.h"
#include "duet/ops/attention.h"

namespace duet::cuda {
namespace {

void ok(cudaError_t error) {
  check(error == cudaSuccess, "test", cudaGetErrorString(error));
}

// Device memory that begins as NaN, so that what is read before it is written shows.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t size) : size_(size) {
    ok(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<size_t>(size, 1) * sizeof(T)));
    poison();
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    ok(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(data_); }
  void poison() {
    ok(cudaMemset(data_, 0xFF, size_ * sizeof(T)));
    ok(cudaDeviceSynchronize());
  }
  std::vector<T> read() const {
    std::vector<T> values(size_);
    ok(cudaDeviceSynchronize());
    ok(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
  size_t size_;
};

std::vector<bf16> rounded(const std::vector<float>& values) {
  std::vector<bf16> result;
  for (const float value : values) result.emplace_back(value);
  return result;
}

std::vector<float> widened(const std::vector<bf16>& values) {
  std::vector<float> result;
  for (const bf16 value : values) result.push_back(static_cast<float>(value));
  return result;
}

std::vector<float> normal(size_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(size);
  for (float& value : values) value = distribution(generator);
  return widened(rounded(values));
}

bool same_bits(const std::vector<bf16>& a, const std::vector<bf16>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(bf16)) == 0;
}

// Query, key or value gradient: columns [part * C, (part + 1) * C) of each row of 3C.
std::vector<float> part_of(const std::vector<float>& packed, int64_t width, int64_t part) {
  std::vector<float> result;
  for (size_t row = 0; row < packed.size(); row += static_cast<size_t>(3 * width)) {
    const auto begin = packed.begin() + static_cast<std::ptrdiff_t>(row) + part * width;
    result.insert(result.end(), begin, begin + width);
  }
  return result;
}

// Relative to the size of the expected values: by norm, and for the largest single error.
void expect_close(const std::vector<float>& actual, const std::vector<float>& expected, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  double error = 0, norm = 0, largest_error = 0, largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(std::isfinite(actual[i])) << what << "[" << i << "] is " << actual[i];
    const double difference = std::abs(double{actual[i]} - double{expected[i]});
    error += difference * difference;
    norm += double{expected[i]} * double{expected[i]};
    largest_error = std::max(largest_error, difference);
    largest = std::max(largest, std::abs(double{expected[i]}));
  }
  EXPECT_LE(std::sqrt(error), tolerance * std::sqrt(norm) + 1e-6) << what;
  EXPECT_LE(largest_error, 3 * tolerance * largest + 1e-6) << what;
}

struct Result {
  std::vector<bf16> y, dqkv;
};

class CudnnAttentionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
      GTEST_SKIP() << "needs a CUDA device: " << (error != cudaSuccess ? cudaGetErrorString(error) : "none found");
    check_cudnn(cudnnCreate(&handle_), "cudnnCreate");
    ok(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    check_cudnn(cudnnSetStream(handle_, stream_), "cudnnSetStream");
    attention_ = std::make_unique<CudnnAttention>(handle_);
  }
  void TearDown() override {
    attention_.reset();
    if (handle_ != nullptr) cudnnDestroy(handle_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  // What a problem needs on the device; key_lengths is empty unless it is masked.
  struct Device {
    Device(CudnnAttention& attention, const AttentionProblem& p, const std::vector<float>& input,
           const std::vector<float>& gradient, const std::vector<int32_t>& valid)
        : qkv(rounded(input)),
          dy(rounded(gradient)),
          lengths(valid),
          y(gradient.size()),
          dqkv(input.size()),
          stats(static_cast<size_t>(p.batch * p.heads * p.tokens)),
          workspace(std::max(attention.forward_workspace(p), p.training ? attention.backward_workspace(p) : 0)),
          workspace_bytes(std::max(attention.forward_workspace(p), p.training ? attention.backward_workspace(p) : 0)),
          key_lengths(p.masked ? lengths.get() : nullptr) {}
    void run(CudnnAttention& attention, const AttentionProblem& p) {
      attention.forward(p, qkv.get(), key_lengths, y.get(), stats.get(), workspace.get(), workspace_bytes);
      if (p.training)
        attention.backward(p, qkv.get(), key_lengths, y.get(), stats.get(), dy.get(), dqkv.get(), workspace.get(),
                           workspace_bytes);
    }
    Buffer<bf16> qkv, dy;
    Buffer<int32_t> lengths;
    Buffer<bf16> y, dqkv;
    Buffer<float> stats;
    Buffer<char> workspace;
    size_t workspace_bytes;
    const int32_t* key_lengths;
  };

  std::vector<int32_t> lengths_of(const AttentionProblem& p) {
    std::vector<int32_t> lengths;
    for (int64_t b = 0; b < p.batch && p.masked; ++b)  // 1 first, then T, then between
      lengths.push_back(static_cast<int32_t>(b == 0 ? 1 : b == 1 ? p.tokens : 1 + (b * 37) % p.tokens));
    return lengths;
  }

  // Runs the problem and compares with the CPU op on the same bf16 inputs; of dq only that it is finite if dq_cancels.
  Result expect_parity(const AttentionProblem& p, const std::vector<float>& qkv, bool dq_cancels = false) {
    SCOPED_TRACE(text("batch ", p.batch, " heads ", p.heads, " tokens ", p.tokens, " head size ", p.head_size,
                      p.masked ? " masked" : "", p.deterministic ? " deterministic" : ""));
    EXPECT_EQ(attention_->refusal(p), "");
    if (!attention_->refusal(p).empty()) return {};
    std::cout << "  T=" << p.tokens << " D=" << p.head_size << ": " << attention_->engines(p) << "\n";
    const int64_t width = p.heads * p.head_size, rows = p.batch * p.tokens;
    const std::vector<float> dy = normal(static_cast<size_t>(rows * width), 2);
    const std::vector<int32_t> lengths = lengths_of(p);

    std::vector<uint8_t> mask;
    for (const int32_t length : lengths)
      for (int64_t t = 0; t < p.tokens; ++t) mask.push_back(t < length);
    const ops::AttentionShape shape = {p.batch, p.heads, p.tokens, p.head_size};
    std::vector<float> probabilities(static_cast<size_t>(p.batch * p.heads * p.tokens * p.tokens));
    std::vector<float> y(dy.size()), dqkv(qkv.size());
    const uint8_t* mask_or_null = p.masked ? mask.data() : nullptr;
    ops::attention_forward<float>(CpuContext{}, shape, qkv.data(), mask_or_null, 0, {}, probabilities.data(), y.data());
    ops::attention_backward<float>(CpuContext{}, shape, qkv.data(), mask_or_null, probabilities.data(), y.data(),
                                   dy.data(), 0, {}, dqkv.data());

    Device device(*attention_, p, qkv, dy, lengths);
    device.run(*attention_, p);
    Result result = {device.y.read(), device.dqkv.read()};
    expect_close(widened(result.y), y, 0.01, "y");
    if (!p.training) return result;
    const std::vector<float> actual = widened(result.dqkv);
    const char* names[] = {"dq", "dk", "dv"};
    for (const float value : actual) EXPECT_TRUE(std::isfinite(value));
    for (int64_t part = dq_cancels ? 1 : 0; part < 3; ++part)
      expect_close(part_of(actual, width, part), part_of(dqkv, width, part), 0.02, names[part]);
    for (int64_t row = 0; row < rows && p.masked; ++row) {
      if (mask[static_cast<size_t>(row)] != 0) continue;
      for (int64_t i = width; i < 3 * width; ++i)
        EXPECT_EQ(actual[static_cast<size_t>(row * 3 * width + i)], 0) << "padding of row " << row << " column " << i;
    }
    return result;
  }
  Result expect_parity(const AttentionProblem& p) {
    return expect_parity(p, normal(static_cast<size_t>(p.batch * p.tokens * 3 * p.heads * p.head_size), 1));
  }

  cudnnHandle_t handle_ = nullptr;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CudnnAttention> attention_;
};

TEST_F(CudnnAttentionTest, AgreesWithTheCpuOnModelShapes) {
  for (const bool deterministic : {true, false}) {
    expect_parity({4, 12, 197, 64, false, deterministic, true});
    expect_parity({4, 12, 128, 64, true, deterministic, true});
    expect_parity({4, 3, 197, 64, false, deterministic, true});
    expect_parity({4, 4, 64, 64, true, deterministic, true});
  }
}

TEST_F(CudnnAttentionTest, AgreesWithTheCpuOnRaggedShapes) {
  for (const int64_t tokens : {2, 7, 50, 65, 512})
    for (const bool masked : {false, true}) expect_parity({3, 3, tokens, 64, masked, true, true});
  expect_parity({2, 1, 197, 32, true, true, true});
  expect_parity({2, 2, 65, 128, true, true, true});
}

TEST_F(CudnnAttentionTest, InferenceAgreesWithTheCpu) {
  expect_parity({3, 3, 197, 64, true, true, false});
}

// Scores near -120 in every row: exp(-stats) overflows f32, which must not reach any gradient. The large component of
// the keys cancels in dq, and leaves rounding errors of its size.
TEST_F(CudnnAttentionTest, VeryLowScoresStayFinite) {
  for (const int64_t tokens : {50, 64, 128, 192, 197}) {
    for (const bool masked : {false, true}) {
      const AttentionProblem p = {2, 2, tokens, 64, masked, true, true};
      const int64_t width = p.heads * p.head_size;
      std::vector<float> qkv = normal(static_cast<size_t>(p.batch * tokens * 3 * width), 3);
      for (size_t i = 0; i < qkv.size(); ++i) {
        const auto column = static_cast<int64_t>(i) % (3 * width);
        if (column >= 2 * width) continue;
        qkv[i] *= 0.125f;
        if (column % p.head_size == 0) qkv[i] = column < width ? 1.0f : -120.0f * 8;
      }
      expect_parity(p, widened(rounded(qkv)), true);
    }
  }
}

TEST_F(CudnnAttentionTest, RepeatsToTheBit) {
  for (const AttentionProblem& p :
       {AttentionProblem{8, 12, 197, 64, false, true, true}, AttentionProblem{8, 12, 128, 64, true, true, true}}) {
    const auto size = static_cast<size_t>(p.batch * p.tokens * p.heads * p.head_size);
    Device device(*attention_, p, normal(3 * size, 4), normal(size, 5), lengths_of(p));
    device.run(*attention_, p);
    const std::vector<bf16> y = device.y.read(), dqkv = device.dqkv.read();
    for (int i = 0; i < 5; ++i) {
      device.y.poison();
      device.dqkv.poison();
      device.workspace.poison();
      device.run(*attention_, p);
      EXPECT_TRUE(same_bits(device.y.read(), y));
      EXPECT_TRUE(same_bits(device.dqkv.read(), dqkv));
    }
  }
}

TEST_F(CudnnAttentionTest, RunsInACudaGraph) {
  const AttentionProblem p = {4, 3, 50, 64, true, true, true};
  const auto size = static_cast<size_t>(p.batch * p.tokens * p.heads * p.head_size);
  Device device(*attention_, p, normal(3 * size, 6), normal(size, 7), lengths_of(p));
  device.run(*attention_, p);
  const std::vector<bf16> y = device.y.read(), dqkv = device.dqkv.read();
  device.y.poison();
  device.dqkv.poison();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ok(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  device.run(*attention_, p);
  ok(cudaStreamEndCapture(stream_, &graph));
  ok(cudaGraphInstantiate(&executable, graph, 0));
  for (int i = 0; i < 2; ++i) {
    ok(cudaGraphLaunch(executable, stream_));
    EXPECT_TRUE(same_bits(device.y.read(), y));
    EXPECT_TRUE(same_bits(device.dqkv.read(), dqkv));
    device.y.poison();
    device.dqkv.poison();
  }
  ok(cudaGraphExecDestroy(executable));
  ok(cudaGraphDestroy(graph));
}

TEST_F(CudnnAttentionTest, RefusesWhatItCannotDo) {
  EXPECT_NE(attention_->refusal({2, 2, 50, 7, false, true, true}).find("multiple of 8"), std::string::npos);
  EXPECT_THROW(attention_->forward_workspace({2, 2, 50, 7, false, true, true}), Error);
  const AttentionProblem p = {2, 2, 50, 64, false, true, true};
  const auto size = static_cast<size_t>(p.batch * p.tokens * p.heads * p.head_size);
  Device device(*attention_, p, normal(3 * size, 8), normal(size, 9), {});
  device.run(*attention_, p);
  EXPECT_THROW(attention_->backward(p, device.qkv.get(), nullptr, device.y.get(), device.stats.get(), device.dy.get(),
                                    device.dqkv.get(), device.workspace.get(), 0),
               Error);
  EXPECT_THROW(attention_->forward(p, device.qkv.get() + 1, nullptr, device.y.get(), device.stats.get(),
                                   device.workspace.get(), device.workspace_bytes),
               Error);
  EXPECT_THROW(attention_->forward(p, device.qkv.get(), device.lengths.get(), device.y.get(), device.stats.get(),
                                   device.workspace.get(), device.workspace_bytes),
               Error);
  EXPECT_THROW(attention_->backward_workspace({2, 2, 50, 64, false, true, false}), Error);
}

}  // namespace
}  // namespace duet::cuda
