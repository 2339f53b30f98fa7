#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>
#include <string>

#include "duet/autograd/engine.h"
#include "duet/core/backend.h"
#include "duet/core/numerics.h"
#include "duet/cuda/attention.h"
#include "duet/ops/attention.h"
#include "duet/ops/concat.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/dropout.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/embedding.h"
#include "duet/ops/gemm.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/linear.h"
#include "duet/ops/reduce.h"
#include "duet/ops/softmax.h"
#include "duet/tests/device.h"
#include "duet/tests/ops/op_cases.h"
#include "duet/tests/ops/op_runner.h"
#include "duet/tests/train/expect.h"

// Kernels called as ops never or seldom call them, and what they must leave alone.
namespace duet::ops {
namespace {

using testing::device;
using train::message_of;

const CudaContext here{0};

Tensor on_device(const Tensor& x, DType dtype) {
  return x.to(dtype).clone().to(device());
}

// Matrices inside larger ones: strides wider than the rows, everything around untouched.
template <class T, class Out>
void check_gemm(double tolerance) {
  Random random(RandomKey{1, 1});
  constexpr int64_t stride = 24;
  const DType in = dtype_of<T>(), out = dtype_of<Out>();
  const Tensor a = on_device(random_normal({stride, stride}, random), in), a_host = a.to(Device{});
  const Tensor b = on_device(random_normal({stride, stride}, random), in), b_host = b.to(Device{});
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {3, 17, 5}, {8, 16, 24}, {24, 1, 7}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const float beta : {0.0f, 1.0f, -0.5f}) {
          const Tensor c = on_device(random_normal({stride, stride}, random), out), before = c.clone().to(Device{});
          gemm<T, Out>(here, m, n, k, 1.5f, {a.data<T>(), stride, ta}, {b.data<T>(), stride, tb}, beta,
                       {c.data<Out>(), stride});
          const Tensor got = c.to(Device{});
          for (int64_t i = 0; i < stride; ++i)
            for (int64_t j = 0; j < stride; ++j) {
              double want = before.at(i * stride + j);
              const bool inside = i < m && j < n;
              if (inside) {
                want *= static_cast<double>(beta);
                for (int64_t l = 0; l < k; ++l)
                  want += 1.5 * a_host.at(ta ? l * stride + i : i * stride + l) *
                          b_host.at(tb ? j * stride + l : l * stride + j);
              }
              ASSERT_NEAR(got.at(i * stride + j), want, inside ? tolerance * (1 + std::abs(want)) : 0)
                  << m << ' ' << n << ' ' << k << ta << tb << beta << " at " << i << ", " << j;
            }
        }
}
TEST(DeviceGemm, StridesTransposesAlphaAndBeta) {
  check_gemm<float, float>(1e-5);
  check_gemm<bf16, float>(1e-5);
  check_gemm<bf16, bf16>(8e-3);
}

TEST(DeviceGemm, BetaZeroOverwritesNan) {
  const Tensor a = Tensor::full({4, 3}, DType::f32, 1, device());
  for (const int64_t k : {0, 3}) {
    const Tensor c = Tensor::full({4, 4}, DType::f32, std::numeric_limits<double>::quiet_NaN(), device());
    gemm<float>(here, 4, 4, k, 1, {a.data<float>(), 3}, {a.data<float>(), 3, true}, 0, {c.data<float>(), 4});
    for (int64_t i = 0; i < 16; ++i) EXPECT_EQ(c.at(i), static_cast<double>(k));
  }
  // An empty product leaves c alone for beta 1; betas other than 0 and 1 are refused.
  const auto empty = [&](float beta) {
    const Tensor c = Tensor::full({4, 4}, DType::f32, 7, device());
    gemm<float>(here, 4, 4, 0, 1, {a.data<float>(), 3}, {a.data<float>(), 3, true}, beta, {c.data<float>(), 4});
    return c.at(15);
  };
  EXPECT_EQ(empty(1), 7);
  EXPECT_CONTAINS(message_of([&] { empty(0.5f); }), "empty product");
}

// 1 + 2^-12 has 12 bits of fraction, of which TF32 would keep ten.
TEST(DeviceGemm, Float32IsNotRoundedUnlessAsked) {
  const Tensor a = Tensor::full({16, 16}, DType::f32, 1 + 0x1p-12, device());
  const Tensor c = Tensor::zeros({16, 16}, DType::f32, device());
  const auto product = [&] {
    gemm<float>(here, 16, 16, 16, 1, {a.data<float>(), 16}, {a.data<float>(), 16}, 0, {c.data<float>(), 16});
    return c.at(17);
  };
  EXPECT_FALSE(numerics().tf32);
  EXPECT_NEAR(product(), 16 * (1 + 0x1p-11), 1e-5);
  numerics().tf32 = true;  // and the plan made before is not taken for this
  EXPECT_NEAR(product(), 16, 0.02);
  numerics().tf32 = false;
  EXPECT_NEAR(product(), 16 * (1 + 0x1p-11), 1e-5);
}

// Without the largest element taken out, exp overflows; with the smallest, everything becomes zero.
TEST(DeviceSoftmax, LargeLogits) {
  for (const int64_t width : {3, 8, 2052}) {
    const Tensor x = Tensor::full({1, width}, DType::f32, -1000, device());
    EXPECT_NEAR(softmax(Variable(x)).data().at(1), 1.0 / static_cast<double>(width), 1e-6);
    x.rows_view(0, 1).reshape({width}).rows_view(1, 3).fill(500);
    const Tensor y = softmax(Variable(x)).data();
    EXPECT_NEAR(y.at(0), 0, 1e-7) << width;
    EXPECT_NEAR(y.at(1), 0.5, 1e-6) << width;
    EXPECT_NEAR(y.at(2), 0.5, 1e-6) << width;
  }
}

// 0.1 added to four million in float is lost.
TEST(DeviceReduce, SumsInDouble) {
  std::vector<float> values(1 << 16, 0.1f);
  std::fill_n(values.begin(), 512, 1e6f);  // what each of 128 threads reads first
  const Tensor x = Tensor::from({1 << 16}, values).to(device());
  EXPECT_NEAR(sum(Variable(x)).data().item(), 512e6 + 0.1 * ((1 << 16) - 512), 100);
}

// Deviations of 1 about a mean of 3000: their squares are lost when the mean is subtracted from the mean of squares.
TEST(DeviceLayerNorm, LargeOffsets) {
  for (const int64_t width : {30, 32, 2052}) {
    Random random(RandomKey{6, 6});
    const Tensor x = random_normal({3, width}, random).to(DType::f32);
    for (float& v : x.values<float>()) v += 3000;
    const Tensor one = Tensor::full({width}, DType::f32, 1), zero = Tensor::zeros({width}, DType::f32);
    const Tensor want =
        layer_norm(Variable(x.to(DType::f64)), Variable(one.to(DType::f64)), Variable(zero.to(DType::f64)), 1e-5)
            .data();
    const Tensor got =
        layer_norm(Variable(x.to(device())), Variable(one.to(device())), Variable(zero.to(device())), 1e-5)
            .data()
            .to(Device{});
    for (int64_t i = 0; i < want.numel(); ++i) ASSERT_NEAR(got.at(i), want.at(i), 2e-3) << width << " element " << i;
  }
}

// The divisor is the sum of the labels' weights.
TEST(DeviceLoss, IsZeroWhereNoLabelHasWeight) {
  const Variable logits(Tensor::full({2, 3}, DType::f32, 1, device()), true);
  const Tensor weights = Tensor::from<float>({3}, {0, 1, 0}).to(device());
  const Variable loss =
      cross_entropy(logits, Tensor::from<int64_t>({2}, {0, 2}).to(device()), {.class_weights = weights});
  EXPECT_EQ(loss.data().item(), 0);
  backward(loss);
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(logits.gradient().at(i), 0);
}

TEST(DeviceLoss, AnyClassCanBeIgnored) {
  const Variable logits(Tensor::from<float>({3, 2}, {5, 0, 0, 0, 5, 0}).to(device()));
  for (const int64_t ignored : {0, 1}) {
    const Variable loss = cross_entropy(
        logits, Tensor::from<int64_t>({3}, {ignored, 1 - ignored, ignored}).to(device()), {.ignore_index = ignored});
    EXPECT_NEAR(loss.data().item(), std::log(2), 1e-6);
  }
}

TEST(DeviceLoss, LargeLogits) {
  for (const double value : {-1000, 1000}) {
    const Variable logits(Tensor::full({2, 9}, DType::f32, value, device()));
    EXPECT_NEAR(cross_entropy(logits, Tensor::zeros({2}, DType::i64, device())).data().item(), std::log(9), 1e-5);
  }
}

TEST(DeviceDropout, LeavesItsNeighboursAlone) {
  for (const int64_t count : {1, 6, 1023}) {
    const Tensor x = Tensor::full({count + 4}, DType::f32, 1, device());
    const Tensor y = Tensor::full({count + 4}, DType::f32, 7, device());
    dropout_forward<float>(here, x.data<float>(), y.data<float>(), count, 0.5f, RandomKey{1, 2});
    for (int64_t i = count; i < count + 4; ++i) EXPECT_EQ(y.at(i), 7) << count;
  }
}

// "Adds; dweight must be initialised."
template <class T>
void check_embedding_adds(int64_t vocabulary, int64_t count) {
  const Tensor ids = Tensor::zeros({count}, DType::i32, device());
  const Tensor dy = Tensor::full({count, 3}, dtype_of<T>(), 1, device());
  const Tensor dweight = Tensor::full({vocabulary, 3}, dtype_of<T>(), 5, device());
  embedding_backward<T, int32_t>(here, ids.data<int32_t>(), count, -1, dy.data<T>(), rows<T>(dweight));
  EXPECT_EQ(dweight.at(0), static_cast<double>(5 + count));
  EXPECT_EQ(dweight.at(vocabulary * 3 - 1), vocabulary > 1 ? 5 : static_cast<double>(5 + count));
}
TEST(DeviceEmbedding, GradientIsAdded) {
  for (const int64_t vocabulary : {1, 2, 1030}) {
    check_embedding_adds<float>(vocabulary, 3);
    check_embedding_adds<float>(vocabulary, 1300);
    check_embedding_adds<bf16>(vocabulary, 3);
  }
}

// Sums over many rows, which blocks share, of columns that fill no last block, at any address.
template <class T>
void check_columns(int64_t count, int64_t width, int64_t start) {
  Random random(RandomKey{7, static_cast<uint64_t>(width)});
  const Tensor x = random_normal({count, width}, random).to(dtype_of<T>());
  const Tensor room = Tensor::zeros({count * width + start}, x.dtype(), device());
  const Tensor view = room.rows_view(start, count * width + start).reshape({count, width});
  view.copy_from(x);
  const Tensor sums = Tensor::full({width + 8}, DType::f32, 7, device());
  bias_backward<T>(here, rows<const T>(view), sums.data<float>());
  const Tensor got = sums.to(Device{});
  for (int64_t c = 0; c < width + 8; ++c) {
    double want = c < width ? 0 : 7;
    for (int64_t r = 0; r < count && c < width; ++r) want += x.at(r * width + c);
    ASSERT_NEAR(got.at(c), want, 1e-3) << count << " rows of " << width << " from " << start << ", column " << c;
  }
}
TEST(DeviceColumns, AnyCountWidthAndAddress) {
  for (const int64_t count : {0, 1, 7, 33, 1000})
    for (const int64_t width : {1, 4, 31, 132})
      for (const int64_t start : {0, 1, 2}) {
        check_columns<float>(count, width, start);
        check_columns<bf16>(count, width, start);
      }
}

// Calls of the same sizes share a plan, but not its bias.
TEST(DeviceLinear, EveryCallHasItsOwnBias) {
  const Variable x(Tensor::zeros({16, 8}, DType::f32, device())), weight(Tensor::zeros({8, 8}, DType::f32, device()));
  std::vector<Variable> biases, results;
  for (const double value : {1, 2, 3}) biases.emplace_back(Tensor::full({8}, DType::f32, value, device()));
  for (const Variable& bias : biases) results.push_back(linear(x, weight, bias));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(results[i].data().at(127), static_cast<double>(i + 1));
}

TEST(DeviceLinear, EveryCallHasItsOwnBiasGradient) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Variable x(Tensor::full({16, 8}, dtype, 1, device()));
    const Variable weight(Tensor::zeros({8, 8}, DType::f32, device()), true);
    std::vector<Tensor> gradients;
    for (const double value : {1, 2, 3}) {
      const Variable bias(Tensor::zeros({8}, DType::f32, device()), true);
      backward(linear(x, weight, bias), Tensor::full({16, 8}, dtype, value, device()));
      gradients.push_back(bias.gradient());
    }
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(gradients[i].at(7), 16 * static_cast<double>(i + 1)) << dtype;
  }
}

// Results alone would not tell if cuBLASLt refused an epilogue, for there is another way.
TEST(DeviceLinear, BiasGradientsAndTheTanhFormOfGeluTakeNoKernel) {
  const auto kernels = [&](DType dtype, Activation activation) {
    const Variable x(Tensor::full({64, 64}, dtype, 0.5, device()), true);
    const Variable weight(Tensor::full({64, 64}, DType::f32, 0.1, device()), true);
    const Variable bias(Tensor::full({64}, DType::f32, 0.2, device()), true);
    start_profile(here);
    backward(linear(x, weight, bias, activation), Tensor::full({64, 64}, dtype, 1, device()));
    std::set<std::string> names;
    for (const KernelSpan& k : stop_profile(here)) names.insert(k.kernel);
    return names;
  };
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto plain = kernels(dtype, Activation::none);
    EXPECT_TRUE(plain.contains("matmul"));
    EXPECT_FALSE(plain.contains("bias_backward") || plain.contains("add_bias")) << dtype;
  }
  EXPECT_FALSE(kernels(DType::bf16, Activation::gelu_tanh).contains("activation"));
  EXPECT_TRUE(kernels(DType::bf16, Activation::gelu).contains("activation"));
}

// As for attention, cuDNN's layer norm has results like those of our own kernels.
TEST(DeviceLayerNorm, IsCudnnsOnlyWhereThatIsAskedFor) {
  const bool asked = testing::with_cudnn_layer_norm();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Variable x(Tensor::full({48, 64}, dtype, 0.5, device()), true);
    const Variable weight(Tensor::full({64}, DType::f32, 0.1, device()), true);
    const Variable bias(Tensor::full({64}, DType::f32, 0.2, device()), true);
    start_profile(here);
    backward(layer_norm(x, weight, bias, 1e-6), Tensor::full({48, 64}, dtype, 1, device()));
    std::set<std::string> names;
    for (const KernelSpan& k : stop_profile(here)) names.insert(k.kernel);
    EXPECT_EQ(names.contains("cudnn_layer_norm"), asked) << dtype;
    EXPECT_EQ(names.contains("cudnn_layer_norm_backward"), names.contains("cudnn_layer_norm")) << dtype;
    EXPECT_NE(names.contains("layer_norm"), names.contains("cudnn_layer_norm")) << dtype;
  }
}

// Other uses of x have left their part of its gradient, which the product adds to; one of no columns adds nothing.
TEST(DeviceLinear, AddsToTheGradientOfItsInput) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t out : {0, 5, 16}) {
      const Variable x(Tensor::full({3, 8}, dtype, 1, device()), true);
      const Variable weight(Tensor::full({out, 8}, DType::f32, 0.25, device()), true);
      const Variable other(Tensor::full({4, 8}, DType::f32, 2, device()), true);
      backward(add(sum(linear(x, weight, {})), sum(linear(x, other, {}))));
      EXPECT_EQ(x.gradient().at(23), 8 + 0.25 * static_cast<double>(out)) << dtype << ' ' << out;
    }
}

// Blocks end beyond the last row: nothing outside of the output may change, whether in packs or not.
TEST(DeviceRows, LeaveTheirNeighboursAlone) {
  for (const int64_t width : {7, 8, 2049, 2056})
    for (const int64_t count : {1, 3, 5}) {
      Random random(RandomKey{3, static_cast<uint64_t>(width)});
      const Tensor x = on_device(random_normal({count, width}, random), DType::f32);
      const Tensor room = Tensor::full({count + 8, width}, DType::f32, 77, device());
      const Tensor y = room.rows_view(4, count + 4);
      softmax_forward<float>(here, rows<const float>(x), rows<float>(y));
      const Tensor got = room.to(Device{});
      for (int64_t r = 0; r < count + 8; ++r) {
        double total = 0;
        for (int64_t c = 0; c < width; ++c) total += got.at(r * width + c);
        EXPECT_NEAR(total, r < 4 || r >= count + 4 ? 77.0 * static_cast<double>(width) : 1.0, 1e-5)
            << width << ' ' << r;
      }
    }
}

// Copies of blocks between odd places: the word's width must suit all of them, and what lies between blocks stays.
TEST(DeviceCopies, BlocksAtAnyPlace) {
  std::vector<uint8_t> bytes(512);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256);
  const Tensor source = Tensor::from({512}, bytes).to(device());
  struct Case {
    int64_t from, to;
    size_t source_stride, target_stride, block;
  };
  for (const Case& c : {Case{0, 0, 64, 48, 32}, Case{0, 0, 64, 48, 20}, Case{4, 0, 64, 48, 32}, Case{0, 8, 64, 48, 16},
                        Case{2, 0, 64, 48, 32}, Case{0, 1, 64, 48, 32}, Case{0, 0, 65, 48, 32}, Case{0, 0, 64, 50, 32},
                        Case{3, 5, 33, 29, 27}}) {
    const Tensor target = Tensor::full({512}, DType::u8, 200, device());
    copy_blocks(here, source.raw() + c.from, c.source_stride, target.raw() + c.to, c.target_stride, c.block, 6);
    std::vector<uint8_t> want(512, 200);
    for (size_t b = 0; b < 6; ++b)
      for (size_t i = 0; i < c.block; ++i)
        want[static_cast<size_t>(c.to) + b * c.target_stride + i] =
            bytes[static_cast<size_t>(c.from) + b * c.source_stride + i];
    const Tensor got = target.to(Device{});
    for (size_t i = 0; i < 512; ++i)
      ASSERT_EQ(got.data<uint8_t>()[i], want[i]) << c.from << ' ' << c.to << ' ' << c.block << " byte " << i;
  }
}

TEST(DeviceCopies, ConvertLeavesNeighboursAlone) {
  for (const int64_t count : {1, 4, 1021, 1024})
    for (const int64_t at : {4, 8, 9}) {
      const Tensor x = Tensor::full({count}, DType::f32, 3, device());
      const Tensor room = Tensor::full({count + 20}, DType::bf16, 7, device());
      const Tensor y = room.rows_view(at, at + count);
      convert_elements(here, x.data<float>(), y.data<bf16>(), count);
      const Tensor got = room.to(Device{});
      for (int64_t i = 0; i < count + 20; ++i)
        ASSERT_EQ(got.at(i), i >= at && i < at + count ? 3 : 7) << count << " at " << at << ", element " << i;
    }
}

TEST(DeviceAttention, RefusesWhatItsKernelsCannotDo) {
  const Variable wide_heads(Tensor::zeros({1, 1, 3 * 129}, DType::f32, device()));
  EXPECT_CONTAINS(message_of([&] { attention(wide_heads, {.heads = 1}); }), "heads of 129");
  const Variable many(Tensor::zeros({65536, 1, 3}, DType::f32, device()));
  EXPECT_CONTAINS(message_of([&] { attention(many, {.heads = 1}); }), "65536 samples of 1 heads");
}

// What cuDNN takes over where it is there: masks that end in padding. Twice, as memory that is used again could hide
// what is not written.
TEST(DeviceAttention, PaddingAtTheEndIsLeftOut) {
  constexpr int64_t batch = 3, tokens = 21, width = 16;
  std::vector<uint8_t> mask(batch * tokens);
  for (size_t b = 0; b < 3; ++b)
    for (size_t t = 0; t < tokens; ++t) mask[b * tokens + t] = t < std::array<size_t, 3>{21, 8, 1}[b];
  Random random(RandomKey{7, 8});
  const Tensor x = random_normal({batch, tokens, 3 * width}, random),
               dy = random_normal({batch, tokens, width}, random);
  const auto run = [&](Device where, DType dtype) {
    AttentionOptions options{.heads = 2};
    options.key_mask = Tensor::from({batch, tokens}, mask).to(where);
    options.padding_at_end = true;
    const Variable in(x.to(DType::bf16).to(dtype).to(where), true);
    const Variable y = attention(in, options);
    const Tensor gradient = gradients({y}, {dy.to(DType::bf16).to(dtype).to(where)}, {in})[0];
    return std::pair(y.data().to(Device{}).to(DType::f64), gradient.to(Device{}).to(DType::f64));
  };
  const auto [y, dx] = run(Device{}, DType::f64);
  for (const DType dtype : {DType::f32, DType::bf16})
    for (int i = 0; i < 2; ++i) {
      const auto [got_y, got_dx] = run(device(), dtype);
      const double tolerance = dtype == DType::f32 ? 1e-5 : 2e-2;
      expect_close(got_y, y, tolerance, 1, text("y ", dtype));
      expect_close(got_dx, dx, tolerance, 1, text("dx ", dtype));
    }
}

// Tiles in which no key counts: before the first one that does, between two, behind the last; and all of a sample's.
// Heads of a size that fills the compiled one and of one that does not.
TEST(DeviceAttention, TilesWithoutKeysCountForNothing) {
  constexpr int64_t batch = 5, tokens = 150;
  std::vector<uint8_t> mask(batch * tokens);
  const auto let = [&](int64_t sample, int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) mask[static_cast<size_t>(sample * tokens + t)] = 1;
  };
  let(0, 130, 131), let(0, 149, 150);
  let(1, 1, 3), let(1, 140, 142);
  let(2, 0, 1);
  let(4, 64, 128);
  Random random(RandomKey{9, 10});
  for (const int64_t head : {64, 21})
    for (const double dropout : {0.0, 0.3}) {
      const Tensor x = random_normal({batch, tokens, 2 * 3 * head}, random),
                   dy = random_normal({batch, tokens, 2 * head}, random);
      const auto run = [&](Device where, DType dtype) {
        const AttentionOptions options{.heads = 2,
                                       .key_mask = Tensor::from({batch, tokens}, mask).to(where),
                                       .dropout = dropout,
                                       .random = {3, 4}};
        const Variable in(x.to(dtype).to(where), true);
        const Variable y = attention(in, options);
        const Tensor gradient = gradients({y}, {dy.to(dtype).to(where)}, {in})[0];
        return std::pair(y.data().to(Device{}).to(DType::f64), gradient.to(Device{}).to(DType::f64));
      };
      const auto [y, dx] = run(Device{}, DType::f64);
      const auto [got_y, got_dx] = run(device(), DType::f32);
      expect_close(got_y, y, 1e-5, 1, text("y, head size ", head, ", dropout ", dropout));
      expect_close(got_dx, dx, 2e-5, 1, text("dx, head size ", head, ", dropout ", dropout));
    }
}

TEST(DeviceAttention, CountsTheLengthsOfMasks) {
  const std::array<int64_t, 6> wanted = {33, 1, 40, 32, 39, 2};
  std::vector<uint8_t> mask(6 * 40);
  for (size_t b = 0; b < 6; ++b)
    for (size_t t = 0; t < 40; ++t) mask[b * 40 + t] = static_cast<int64_t>(t) < wanted[b];
  const Tensor lengths = Tensor::full({8}, DType::i32, -5, device());
  cuda::mask_lengths(here, 6, 40, Tensor::from({6, 40}, mask).to(device()).data<uint8_t>(), lengths.data<int32_t>());
  for (int64_t b = 0; b < 8; ++b) EXPECT_EQ(lengths.at(b), b < 6 ? wanted[static_cast<size_t>(b)] : -5);
  const auto faulty = [&](size_t sample, size_t token, uint8_t value) {
    std::vector<uint8_t> changed = mask;
    changed[sample * 40 + token] = value;
    const Tensor there = Tensor::from({6, 40}, changed).to(device());
    cuda::mask_lengths(here, 6, 40, there.data<uint8_t>(), lengths.data<int32_t>());
    return message_of([] { synchronize(device()); });
  };
  EXPECT_CONTAINS(faulty(4, 20, 0), "the mask of sample 4");
  EXPECT_CONTAINS(faulty(0, 31, 0), "the mask of sample 0");  // another lane reads the token behind this hole
  EXPECT_CONTAINS(faulty(1, 0, 0), "the mask of sample 1");   // no token at all
  EXPECT_CONTAINS(faulty(5, 39, 1), "the mask of sample 5");
}

}  // namespace
}  // namespace duet::ops
