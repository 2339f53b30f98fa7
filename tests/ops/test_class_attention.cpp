#include <gtest/gtest.h>

#include "duet/autograd/engine.h"
#include "duet/ops/attention.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/linear.h"
#include "duet/ops/reshape.h"
#include "duet/ops/slice.h"
#include "duet/tests/ops/op_runner.h"

// class_attention against the first rows of the attention of all tokens, composed of other ops.
namespace duet::ops {
namespace {

struct ClassAttentionCase {
  static constexpr int64_t heads = 2, width = heads * 5, in = 7, samples = 3;

  Tensor x, weight, bias;
  AttentionOptions options;
  std::vector<int64_t> first_rows;

  // With `packed`, sequences of three lengths without padding, and some rows that have no use behind them; else a key
  // mask with holes.
  ClassAttentionCase(int64_t tokens, bool packed, DType dtype) {
    Random random(RandomKey{2, static_cast<uint64_t>(tokens)});
    options = {.heads = heads, .dropout = 0.2, .random = {5, 5}};
    if (packed) {
      const int64_t second = (tokens + 1) / 2;
      options.starts = Tensor::from<int64_t>({samples + 1}, {0, tokens, tokens + second, tokens + second + 1});
      options.longest = tokens;
      first_rows = {0, tokens, tokens + second};
      x = random_normal({tokens + second + 4, in}, random).to(dtype);
    } else {
      options.key_mask = random_indices({samples, tokens}, 2, DType::u8, random);
      for (int64_t b = 0; b < samples; ++b) {
        options.key_mask.data<uint8_t>()[b * tokens + tokens - 1] = 1;
        first_rows.push_back(b * tokens);
      }
      x = random_normal({samples, tokens, in}, random).to(dtype);
    }
    weight = random_normal({3 * width, in}, random, 0.4).to(wide(dtype));
    bias = random_normal({3 * width}, random).to(wide(dtype));
  }

  Variable composed(const Variable& input, const Variable& w, const Variable& b) const {
    const bool packed = options.starts.defined();
    const int64_t used = packed ? static_cast<int64_t>(options.starts.at(samples)) : 0;
    const Variable all = attention(linear(packed ? slice(input, 0, 0, used) : input, w, b), options);
    return gather_rows(packed ? all : reshape(all, {all.dim(0) * all.dim(1), width}),
                       Tensor::from({samples}, first_rows));
  }
};

// One block of keys and several; every choice of what trains.
TEST(ClassAttention, IsTheFirstRowOfAttention) {
  for (const auto& [dtype, tolerance] : {std::pair(DType::f64, 1e-13), {DType::f32, 1e-5}, {DType::bf16, 3e-2}})
    for (const int64_t tokens : {1, 6, 130, 600})
      for (const bool packed : {false, true})
        for (int trains = 0; trains < 8; ++trains) {
          const ClassAttentionCase c(tokens, packed, dtype);
          SCOPED_TRACE(text(dtype, ", ", tokens, " tokens", packed ? ", packed" : "", ", trains ", trains));
          const std::vector<Variable> inputs{Variable(c.x, (trains & 1) != 0), Variable(c.weight, (trains & 2) != 0),
                                             Variable(c.bias, (trains & 4) != 0)};
          const Variable got = class_attention(inputs[0], inputs[1], inputs[2], c.options);
          const Variable want = c.composed(inputs[0], inputs[1], inputs[2]);
          expect_close(got.data(), want.data(), tolerance, 1, "value");
          std::vector<Variable> trainable;
          for (const Variable& v : inputs)
            if (v.requires_grad()) trainable.push_back(v);
          if (trainable.empty()) continue;
          Random random(RandomKey{9, 9});
          const Tensor seed = random_normal(got.shape(), random).to(dtype);
          const std::vector<Tensor> g = gradients({got}, {seed}, trainable), w = gradients({want}, {seed}, trainable);
          for (size_t i = 0; i < g.size(); ++i) expect_close(g[i], w[i], tolerance, 1, text("gradient ", i));
        }
}

// The backward pass needs the starts, which the caller may have given away by then, and their memory to others.
TEST(ClassAttention, KeepsItsStarts) {
  const ClassAttentionCase c(6, true, DType::f64);
  const Variable x(c.x, true);
  const Tensor seed = Tensor::full({c.samples, c.width}, DType::f64, 1);
  AttentionOptions options = c.options;
  options.starts = c.options.starts.clone();
  const Variable got = class_attention(x, Variable(c.weight), Variable(c.bias), options);
  options.starts = {};
  std::vector<Tensor> others;
  for (int i = 0; i < 8; ++i) others.push_back(Tensor::full({c.samples + 1}, DType::i64, -1));
  const Variable want = c.composed(x, Variable(c.weight), Variable(c.bias));
  expect_close(gradients({got}, {seed}, {x})[0], gradients({want}, {seed}, {x})[0], 1e-13, 1, "gradient");
}

}  // namespace
}  // namespace duet::ops
