#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "duet/autograd/engine.h"
#include "duet/core/allocator.h"
#include "duet/ops/attention.h"
#include "duet/ops/concat.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/gelu.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/linear.h"
#include "duet/ops/matmul.h"
#include "duet/ops/reduce.h"
#include "duet/ops/reshape.h"
#include "duet/ops/slice.h"
#include "duet/ops/softmax.h"
#include "duet/tests/ops/op_cases.h"

// Fused ops against the same computation composed of simpler ops, forward and backward.
namespace duet::ops {
namespace {

using Function = std::function<std::vector<Variable>(const std::vector<Variable>&)>;

void expect_same(const Function& fused, const Function& composed, const std::vector<Tensor>& inputs) {
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-12}, std::pair{DType::f32, 2e-5}}) {
    std::vector<std::vector<Tensor>> results;
    for (const Function& f : {fused, composed}) {
      std::vector<Variable> x;
      for (const Tensor& input : inputs) x.emplace_back(input.to(dtype), true);
      const std::vector<Variable> outputs = f(x);
      Random random(RandomKey{4, 4});
      std::vector<Tensor> seeds, all;
      for (const Variable& y : outputs) {
        seeds.push_back(random_normal(y.shape(), random).to(dtype));
        all.push_back(y.data());
      }
      for (const Tensor& g : gradients(outputs, seeds, x)) all.push_back(g);
      results.push_back(all);
    }
    ASSERT_EQ(results[0].size(), results[1].size());
    for (size_t i = 0; i < results[0].size(); ++i) {
      ASSERT_EQ(results[0][i].shape(), results[1][i].shape());
      double scale = 1;
      for (int64_t j = 0; j < results[1][i].numel(); ++j) scale = std::max(scale, std::abs(results[1][i].at(j)));
      for (int64_t j = 0; j < results[1][i].numel(); ++j)
        ASSERT_NEAR(results[0][i].at(j), results[1][i].at(j), tolerance * scale)
            << dtype << ", tensor " << i << " element " << j;
    }
  }
}

struct FusedTest : ::testing::Test {
  Random random{RandomKey{21, 0}};
  Tensor normal(const Shape& shape) { return random_normal(shape, random); }
};

// Sizes at which float32 products are packed, with bias and activation after them, and both gradients.
TEST_F(FusedTest, LargeLinearLayers) {
  const auto composed = [](const std::vector<Variable>& x) {
    return std::vector{gelu(add(matmul(x[0], x[1], false, true), x[2]))};
  };
  const auto fused = [](const std::vector<Variable>& x) {
    return std::vector{linear(x[0], x[1], x[2], Activation::gelu)};
  };
  expect_same(fused, composed, {normal({300, 270}), normal({160, 270}), normal({160})});
}

TEST_F(FusedTest, LinearWithGelu) {
  for (const bool approximate : {false, true})
    expect_same(
        [=](const auto& x) {
          return std::vector{linear(x[0], x[1], x[2], approximate ? Activation::gelu_tanh : Activation::gelu)};
        },
        [=](const auto& x) { return std::vector{gelu(add(matmul(x[0], x[1], false, true), x[2]), approximate)}; },
        {normal({7, 19}), normal({33, 19}), normal({33})});
}

TEST_F(FusedTest, FeedForward) {
  for (const Activation activation : {Activation::none, Activation::gelu, Activation::gelu_tanh})
    expect_same([=](const auto& x) { return std::vector{feed_forward(x[0], x[1], x[2], activation, x[3], x[4])}; },
                [=](const auto& x) { return std::vector{linear(linear(x[0], x[1], x[2], activation), x[3], x[4])}; },
                {normal({7, 19}), normal({33, 19}), normal({33}), normal({5, 33}), normal({5})});
}

// Sizes at which float32 products make the hidden layer in parts.
TEST_F(FusedTest, LargeFeedForward) {
  for (const Activation activation : {Activation::none, Activation::gelu, Activation::gelu_tanh})
    expect_same([=](const auto& x) { return std::vector{feed_forward(x[0], x[1], x[2], activation, x[3], x[4])}; },
                [=](const auto& x) { return std::vector{linear(linear(x[0], x[1], x[2], activation), x[3], x[4])}; },
                {normal({300, 270}), normal({320, 270}), normal({320}), normal({144, 320}), normal({144})});
}

// The same in bfloat16, of which every layer's result is rounded once either way.
TEST_F(FusedTest, LargeFeedForwardInBfloat16) {
  const std::vector<Tensor> values{normal({300, 270}), normal({320, 270}), normal({320}), normal({144, 320}),
                                   normal({144})};
  const Variable x(values[0].to(DType::bf16)), w1(values[1].to(DType::f32)), b1(values[2].to(DType::f32)),
      w2(values[3].to(DType::f32)), b2(values[4].to(DType::f32));
  const Tensor got = feed_forward(x, w1, b1, Activation::gelu, w2, b2).data();
  const Tensor want = linear(linear(x, w1, b1, Activation::gelu), w2, b2).data();
  for (int64_t i = 0; i < want.numel(); ++i) ASSERT_EQ(got.at(i), want.at(i)) << i;
}

// Whatever subset trains, those parameters get the gradients of two linear ops and the others none.
TEST_F(FusedTest, FeedForwardWithFrozenParts) {
  const std::vector<Tensor> values{normal({7, 19}), normal({33, 19}), normal({33}), normal({5, 33}), normal({5})};
  for (unsigned trained = 1; trained < 32; ++trained) {
    const auto run = [&](bool fused) {
      std::vector<Variable> x;
      for (size_t i = 0; i < values.size(); ++i) x.emplace_back(values[i], (trained >> i & 1) != 0);
      backward(sum(fused ? feed_forward(x[0], x[1], x[2], Activation::gelu, x[3], x[4])
                         : linear(linear(x[0], x[1], x[2], Activation::gelu), x[3], x[4])));
      return x;
    };
    const std::vector<Variable> got = run(true), want = run(false);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i].gradient().defined(), (trained >> i & 1) != 0) << trained << ' ' << i;
      if (!got[i].gradient().defined()) continue;
      for (int64_t j = 0; j < got[i].gradient().numel(); ++j)
        ASSERT_EQ(got[i].gradient().at(j), want[i].gradient().at(j)) << trained << ' ' << i;
    }
  }
}

TEST_F(FusedTest, FeedForwardDoesNotKeepItsHiddenLayer) {
  const Variable x(normal({64, 32}), true), w1(normal({128, 32}), true), w2(normal({32, 128}), true);
  const auto kept = [&](const auto& run) {
    const int64_t before = cpu_allocator().stats().in_use_bytes;
    const Variable y = run();
    return cpu_allocator().stats().in_use_bytes - before;
  };
  const int64_t hidden = 64 * 128 * static_cast<int64_t>(sizeof(double));
  EXPECT_EQ(kept([&] { return linear(linear(x, w1, {}, Activation::gelu), w2, {}); }) -
                kept([&] { return feed_forward(x, w1, {}, Activation::gelu, w2, {}); }),
            hidden);
}

TEST_F(FusedTest, AddLayerNorm) {
  expect_same(
      [](const auto& x) {
        const AddLayerNorm result = add_layer_norm(x[0], x[1], x[2], x[3], 1e-12);
        return std::vector{result.sum, result.normalised};
      },
      [](const auto& x) {
        const Variable sum = add(x[0], x[1]);
        return std::vector{sum, layer_norm(sum, x[2], x[3], 1e-12)};
      },
      {normal({2, 5, 37}), normal({2, 5, 37}), normal({37}), normal({37})});
}

TEST_F(FusedTest, AttentionWithAMask) {
  constexpr int64_t batch = 2, tokens = 5, heads = 3, size = 7, width = heads * size;
  const Tensor mask = Tensor::from<uint8_t>({batch, tokens}, {1, 1, 0, 1, 0, 0, 1, 1, 1, 1});
  expect_same([&](const auto& x) { return std::vector{attention(x[0], {.heads = heads, .key_mask = mask})}; },
              [&](const auto& x) {
                std::vector<Variable> samples;
                for (int64_t b = 0; b < batch; ++b) {
                  Tensor bias = Tensor::zeros({tokens}, x[0].dtype());
                  for (int64_t t = 0; t < tokens; ++t)
                    if (mask.at(b * tokens + t) == 0) {
                      if (x[0].dtype() == DType::f64)
                        bias.template data<double>()[t] = -1e9;
                      else
                        bias.template data<float>()[t] = -1e9f;
                    }
                  const Variable sample = reshape(slice(x[0], 0, b, b + 1), {tokens, 3 * width});
                  std::vector<Variable> parts;
                  for (int64_t h = 0; h < heads; ++h) {
                    const auto take = [&](int64_t part) {
                      return slice(sample, 1, part * width + h * size, part * width + (h + 1) * size);
                    };
                    const Variable scores = scale(matmul(take(0), take(1), false, true), 1 / std::sqrt(double{size}));
                    parts.push_back(matmul(softmax(add(scores, Variable(bias))), take(2)));
                  }
                  samples.push_back(reshape(concat(parts, 1), {1, tokens, width}));
                }
                return std::vector{concat(samples, 0)};
              },
              {normal({batch, tokens, 3 * width})});
}

TEST_F(FusedTest, CrossEntropyWithSmoothing) {
  constexpr int64_t rows = 6, classes = 9;
  const Tensor labels = random_indices({rows}, classes, DType::i64, random);
  constexpr double smoothing = 0.2;
  // -log p_y = log sum exp(x) - x_y. The targets select with a product, the logarithm's derivative is 1 / sum.
  expect_same([&](const auto& x) { return std::vector{cross_entropy(x[0], labels, {.label_smoothing = smoothing})}; },
              [&](const auto& x) {
                Tensor targets = Tensor::full({rows, classes}, DType::f64, smoothing / classes);
                for (int64_t i = 0; i < rows; ++i)
                  targets.data<double>()[i * classes + labels.data<int64_t>()[i]] += 1 - smoothing;
                targets = targets.to(x[0].dtype());
                const Variable p = softmax(x[0]);
                Tensor log_p = empty_like(p.data());
                for (int64_t i = 0; i < log_p.numel(); ++i) {
                  const double value = std::log(p.data().at(i));
                  if (log_p.dtype() == DType::f64)
                    log_p.data<double>()[i] = value;
                  else
                    log_p.data<float>()[i] = static_cast<float>(value);
                }
                const Tensor pd = p.data();
                const Variable logarithm =
                    Variable::from_op("log", log_p, {p}, [pd](const Tensor& dy, GradientSink& sink) {
                      sink.add(0, divide(Variable(dy), Variable(pd)).data());
                    });
                return std::vector{scale(sum(multiply(logarithm, Variable(targets))), -1.0 / rows)};
              },
              {normal({rows, classes})});
}

TEST(CrossEntropy, GoldenValues) {
  const Variable logits(Tensor::from<double>({4, 3}, {1, 2, .5, .1, -.3, 2, 0, 1, -1, 3, 1, 0}));
  const Tensor labels = Tensor::from<int64_t>({4}, {1, 2, -100, 0});
  EXPECT_NEAR(cross_entropy(logits, labels, {.label_smoothing = 0.1}).data().item(), 0.4157401052692745, 1e-14);
  const Tensor weights = Tensor::from<double>({3}, {.5, 1, 2});
  EXPECT_NEAR(cross_entropy(logits, labels, {.label_smoothing = 0.1, .class_weights = weights}).data().item(),
              0.42498521139053114, 1e-14);
}

TEST(CrossEntropy, NonFiniteLogitsShow) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const auto loss = [](const std::vector<float>& row, int64_t label) {
    return cross_entropy(Variable(Tensor::from<float>({1, 3}, row)), Tensor::from<int64_t>({1}, {label})).data().item();
  };
  EXPECT_TRUE(std::isnan(loss({0, nan, 1}, 0)));
  EXPECT_TRUE(std::isnan(loss({0, inf, 1}, 0)));
  EXPECT_TRUE(std::isnan(loss({-inf, -inf, -inf}, 0)));
  EXPECT_NEAR(loss({0, -inf, 0}, 0), std::log(2), 1e-6);
  EXPECT_EQ(loss({0, -inf, 0}, 1), inf);
  // Far apart, but finite: no overflow on the way.
  EXPECT_EQ(loss({3e38f, -3e38f, 0}, 0), 0);
}

TEST(Softmax, LargeAndMissingNumbers) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor y = softmax(Variable(Tensor::from<float>({2, 3}, {1e4f, 1e4f, -inf, -3e38f, -3e38f, -3e38f}))).data();
  EXPECT_EQ(y.at(0), 0.5);
  EXPECT_EQ(y.at(2), 0);
  EXPECT_NEAR(y.at(4), 1.0 / 3, 1e-7);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(softmax(Variable(Tensor::from<float>({3}, {0, nan, 1}))).data().at(0)));
}

TEST(Attention, AMaskedSampleAttendsEvenlyAndOthersAreUntouched) {
  Random random(RandomKey{2, 2});
  const Tensor qkv = random_normal({2, 3, 6}, random);
  const Tensor mask = Tensor::from<uint8_t>({2, 3}, {0, 0, 0, 1, 1, 1});
  const Variable x(qkv, true);
  const Variable y = attention(x, {.heads = 1, .key_mask = mask});
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t c = 0; c < 2; ++c)
      EXPECT_NEAR(y.data().at(t * 2 + c), (qkv.at(4 + c) + qkv.at(10 + c) + qkv.at(16 + c)) / 3, 1e-15);
  const Tensor free = attention(Variable(qkv), {.heads = 1}).data();
  for (int64_t i = 6; i < 12; ++i) EXPECT_EQ(y.data().at(i), free.at(i));
}

}  // namespace
}  // namespace duet::ops
