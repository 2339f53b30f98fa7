#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "duet/autograd/engine.h"
#include "duet/core/allocator.h"
#include "duet/core/parallel.h"
#include "duet/ops/attention.h"
#include "duet/ops/cast.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/dropout.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/embedding.h"
#include "duet/ops/l2_normalize.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/linear.h"
#include "duet/ops/patch_embedding.h"
#include "duet/ops/reduce.h"
#include "duet/ops/softmax.h"
#include "duet/tests/ops/op_cases.h"

// What single ops promise beyond the op table.
namespace duet::ops {
namespace {

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Embedding, ThePaddingRowGetsNoGradientAndRepeatedIdsAdd) {
  for (const DType dtype : {DType::i32, DType::i64}) {
    const Variable weight(Tensor::full({4, 2}, DType::f32, 1), true);
    const Tensor ids = Tensor::from<int64_t>({5}, {2, 0, 2, 2, 1}).to(dtype);
    backward(sum(embedding(ids, weight, 0)));
    const std::vector<double> want = {0, 0, 1, 1, 3, 3, 0, 0};
    for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(weight.gradient().at(i), want[static_cast<size_t>(i)]);
  }
  EXPECT_NE(message_of([] {
              embedding(Tensor::from<float>({1}, {0}), Variable(Tensor::zeros({4, 2}, DType::f32)));
            }).find("[embedding] indices must be int32 or int64"),
            std::string::npos);
}

TEST(Cast, RoundsToBf16AndBackAndConvertsTheGradient) {
  const Variable x(Tensor::from<float>({3}, {1.00390625f, -2.5f, 3.14159274f}), true);
  const Variable y = cast(x, DType::bf16);
  EXPECT_EQ(y.dtype(), DType::bf16);
  EXPECT_EQ(y.data().at(0), 1.0);
  EXPECT_EQ(y.data().at(1), -2.5);
  EXPECT_EQ(y.data().at(2), 3.140625);
  backward(sum(cast(y, DType::f32)));
  EXPECT_EQ(x.gradient().dtype(), DType::f32);
  EXPECT_EQ(x.gradient().at(2), 1.0);
}

// In bfloat16 256 + 1 is 256: sums of many must be made in float and rounded once.
TEST(Bfloat16, SumsAreNotMadeInIt) {
  const int64_t count = 1000;
  const auto ones = [](const Shape& shape, DType dtype = DType::bf16) {
    return Variable(Tensor::full(shape, dtype, 1), true);
  };
  const auto expect_count = [&](const Variable& x, const char* what) {
    for (int64_t i = 0; i < x.gradient().numel(); ++i) ASSERT_EQ(x.gradient().at(i), count) << what;
  };
  const Variable rows = ones({3, 2});
  backward(sum(embedding(Tensor::zeros({count}, DType::i64), rows)));
  EXPECT_EQ(rows.gradient().at(1), count);
  EXPECT_EQ(rows.gradient().at(2), 0);
  for (const Shape& shape : {Shape{4}, Shape{}}) {
    const Variable b = ones(shape);
    backward(sum(add(ones({count * 4 / std::max<int64_t>(shape.numel(), 4), 4}), b)));
    ASSERT_EQ(b.gradient().dtype(), DType::bf16);
    EXPECT_EQ(b.gradient().at(0), shape.rank() ? count : 4 * count);
  }
  const Variable weight = ones({4, 3}, DType::f32), bias = ones({4}, DType::f32);
  backward(sum(linear(ones({count, 3}), weight, bias)));
  expect_count(weight, "weight");
  expect_count(bias, "bias");
  const Variable shift = ones({4}, DType::f32);
  backward(sum(layer_norm(ones({count, 4}), ones({4}, DType::f32), shift, 1e-5)));
  expect_count(shift, "layer_norm");
  EXPECT_EQ(sum(ones({count})).data().item(), count);
  EXPECT_NEAR(mean_last(softmax(ones({1, count}))).data().item(), 1.0 / count, 1e-5);
  EXPECT_EQ(cross_entropy(ones({1, count}), Tensor::zeros({1}, DType::i64)).data().dtype(), DType::f32);
  EXPECT_NEAR(cross_entropy(ones({1, count}), Tensor::zeros({1}, DType::i64)).data().item(), std::log(1000.0), 1e-5);
}

TEST(Dropout, KeepsTheShareAndTheMean) {
  for (const double p : {0.1, 0.5, 0.9}) {
    const Tensor y = dropout(Variable(Tensor::full({100000}, DType::f64, 1)), p, {5, 6}).data();
    double kept = 0, total = 0;
    for (int64_t i = 0; i < y.numel(); ++i) {
      kept += y.at(i) != 0;
      total += y.at(i);
    }
    EXPECT_NEAR(kept / 1e5, 1 - p, 0.006);
    EXPECT_NEAR(total / 1e5, 1, 0.06);
  }
}

TEST(Dropout, TheGradientUsesTheSameMask) {
  const Variable x(Tensor::full({1000}, DType::f32, 1), true);
  const Variable y = dropout(x, 0.4, {5, 7});
  backward(sum(y));
  for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(x.gradient().at(i), y.data().at(i));
}

TEST(Dropout, ASpanMayBeginAnywhere) {
  const std::vector<float> x(37, 1);
  std::vector<float> whole(37), parts(37);
  dropout_span<float>(x.data(), whole.data(), 37, 0.5f, {1, 2}, 11);
  for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, 1}, {1, 7}, {7, 8}, {8, 37}})
    dropout_span<float>(x.data() + begin, parts.data() + begin, static_cast<int64_t>(end - begin), 0.5f, {1, 2},
                        11 + static_cast<int64_t>(begin));
  EXPECT_EQ(whole, parts);
}

TEST(Dropout, ProbabilitiesThatRoundToOneAreRefused) {
  const Variable x(Tensor::full({4}, DType::f32, 1));
  for (const double p : {1.0, 0.99999999, -0.1, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_NE(message_of([&] { dropout(x, p, {}); }).find("[dropout] probability must be in [0, 1)"),
              std::string::npos);
    EXPECT_NE(message_of([&] {
                attention(Variable(Tensor::zeros({1, 2, 3}, DType::f32)), {.dropout = p});
              }).find("[attention] dropout must be in [0, 1)"),
              std::string::npos);
  }
  const Tensor y = dropout(x, 0.9999, {}).data();
  for (int64_t i = 0; i < 4; ++i) EXPECT_TRUE(std::isfinite(y.at(i)));
}

TEST(Attention, MistakesNameWhatWasWanted) {
  const Variable qkv(Tensor::zeros({2, 3, 12}, DType::f32));
  EXPECT_NE(message_of([&] {
              attention(qkv, {.heads = 2, .key_mask = Tensor::zeros({2, 4}, DType::u8)});
            }).find("[attention] key_mask must be (2, 3) uint8, got (2, 4) uint8"),
            std::string::npos);
  for (const int64_t heads : {int64_t{0}, int64_t{3}, int64_t{1} << 62})
    EXPECT_NE(message_of([&] { attention(qkv, {.heads = heads}); }).find("does not split"), std::string::npos) << heads;
  EXPECT_NE(message_of([] {
              attention(Variable(Tensor::zeros({2, 3, 0}, DType::f32)), {});
            }).find("does not split"),
            std::string::npos);
}

#if !defined(__SANITIZE_ADDRESS__)
// How many of its threads are at work at once is the system's business; a step that has warmed up would allocate again
// when it is more than before.
TEST(Attention, TakesTheSameMemoryHoweverItsThreadsAreScheduled) {
  const int before = threads();
  set_threads(8);
  const Variable x(Tensor::full({8, 64, 3 * 32}, DType::f32, 0.5), true);
  CachingAllocator& memory = cpu_allocator();
  std::set<int64_t> peaks;
  for (int i = 0; i < 30; ++i) {
    memory.reset_peak();
    const int64_t start = memory.stats().in_use_bytes;
    gradients({attention(x, {.heads = 4, .dropout = 0.1, .random = {1, 2}})},
              {Tensor::full({8, 64, 32}, DType::f32, 1)}, {x});
    peaks.insert(memory.stats().peak_in_use_bytes - start);
  }
  set_threads(before);
  EXPECT_EQ(peaks.size(), 1u);
}
#endif

TEST(PatchEmbedding, MixedDtypesNameTheOp) {
  const auto zeros = [](const Shape& shape, DType dtype) { return Variable(Tensor::zeros(shape, dtype)); };
  EXPECT_NE(message_of([&] {
              patch_embedding(zeros({1, 3, 4, 4}, DType::f32), zeros({8, 3, 2, 2}, DType::f64), zeros({8}, DType::f32),
                              zeros({1, 1, 8}, DType::f32), zeros({1, 5, 8}, DType::f32));
            }).find("[patch_embedding] dtypes do not fit: images (1, 3, 4, 4) float32, parameter (8, 3, 2, 2) float64"),
            std::string::npos);
}

TEST(L2Normalize, ZeroVectorsStayZeroWithAFiniteGradient) {
  const Variable x(Tensor::zeros({2, 3}, DType::f32), true);
  const Variable y = l2_normalize(x, 1e-6);
  backward(sum(y));
  EXPECT_EQ(y.data().at(0), 0);
  EXPECT_FLOAT_EQ(static_cast<float>(x.gradient().at(0)), 1e6f);
}

// A large common offset leaves few bits for the differences; subtracting the mean first keeps them.
TEST(LayerNorm, LargeOffsets) {
  const Tensor x = Tensor::from<float>({1, 4}, {10001, 10002, 10003, 10004});
  const Variable one(Tensor::full({4}, DType::f32, 1)), zero(Tensor::zeros({4}, DType::f32));
  const Tensor y = layer_norm(Variable(x), one, zero, 1e-12).data();
  EXPECT_NEAR(y.at(0), -1.5 / std::sqrt(1.25), 1e-5);
  EXPECT_NEAR(y.at(3), 1.5 / std::sqrt(1.25), 1e-5);
}

// Float would lose a hundredth of this sum: it is added in double.
TEST(Elementwise, TheGradientOfAScalarIsSummedExactly) {
  const Variable a(Tensor::full({1 << 24, 1}, DType::f32, 0.1)), b(Tensor::full({}, DType::f32, 1), true);
  backward(sum(multiply(a, b)));
  EXPECT_NEAR(b.gradient().item(), 0.1f * double{1 << 24}, 0.5);
}

TEST(Divide, ByZeroGivesInfinity) {
  const Tensor y =
      divide(Variable(Tensor::from<float>({3}, {1, -1, 0})), Variable(Tensor::from<float>({}, {0}))).data();
  EXPECT_EQ(y.at(0), std::numeric_limits<double>::infinity());
  EXPECT_EQ(y.at(1), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(y.at(2)));
}

// Whatever the memory held: also of keys behind the last one that counts, and where none does.
template <class T>
void expect_all_gradients_written() {
  using W = Wide<T>;
  const AttentionShape s{2, 2, 140, 9};
  const int64_t rows = s.batch * s.tokens, width = s.heads * s.head_size;
  Random random(RandomKey{3, 5});
  const auto random_elements = [&](int64_t count) { return random_normal({count}, random).to(dtype_of<T>()); };
  const Tensor qkv = random_elements(rows * 3 * width), dy = random_elements(rows * width);
  Tensor mask = Tensor::zeros({rows}, DType::u8);
  std::fill_n(mask.data<uint8_t>(), 50, uint8_t{1});
  const Tensor saved = Tensor::empty({s.batch * s.heads * s.tokens}, dtype_of<W>());
  const Tensor y = Tensor::empty({rows * width}, dtype_of<T>());
  const Tensor dqkv = Tensor::full({rows * 3 * width}, dtype_of<T>(), std::numeric_limits<double>::quiet_NaN());
  attention_forward<T>(CpuContext{}, s, qkv.data<T>(), mask.data<uint8_t>(), 0.1f, {1, 2}, saved.data<W>(),
                       y.data<T>());
  attention_backward<T>(CpuContext{}, s, qkv.data<T>(), mask.data<uint8_t>(), saved.data<W>(), y.data<T>(),
                        dy.data<T>(), 0.1f, {1, 2}, dqkv.data<T>());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < 3 * width; ++c) {
      const double gradient = dqkv.at(i * 3 * width + c);
      ASSERT_TRUE(std::isfinite(gradient)) << dtype_of<T>() << " row " << i << " element " << c;
      const bool query = c < width, key = c >= width && c < 2 * width, first = i < s.tokens;
      if ((!first && (query || key)) || (first && !query && i >= 50)) {
        ASSERT_EQ(gradient, 0) << dtype_of<T>() << " row " << i << " element " << c;
      }
    }
}

TEST(Attention, GradientsAreWrittenWhateverTheMemoryHeld) {
  expect_all_gradients_written<float>();
  expect_all_gradients_written<double>();
  expect_all_gradients_written<bf16>();
}

}  // namespace
}  // namespace duet::ops
