#include <gtest/gtest.h>

#include "duet/autograd/engine.h"
#include "duet/ops/attention.h"
#include "duet/ops/dropout.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/reshape.h"
#include "duet/ops/scatter_rows.h"
#include "duet/tests/ops/op_runner.h"
#include "duet/tests/train/expect.h"

// Sequences without padding against the same ones with it.
namespace duet::ops {
namespace {

using train::message_of;

struct Sequences {
  Tensor starts, rows, mask;  // as ops::attention and ops::dropout take them
};

Sequences sequences(int64_t longest, const std::vector<int64_t>& lengths) {
  const auto count = static_cast<int64_t>(lengths.size());
  std::vector<int64_t> starts{0}, rows;
  const Tensor mask = Tensor::zeros({count, longest}, DType::u8);
  for (int64_t b = 0; b < count; ++b) {
    const int64_t length = lengths[static_cast<size_t>(b)];
    starts.push_back(starts.back() + length);
    for (int64_t t = 0; t < length; ++t) rows.push_back(b * longest + t);
    std::fill_n(mask.data<uint8_t>() + b * longest, length, uint8_t{1});
  }
  return {Tensor::from({count + 1}, starts), Tensor::from({starts.back()}, rows), mask};
}

// In one tile, in several tiles of queries, in several of keys. How a library's product rounds a row may depend on what
// lies beside it.
TEST(Unpadded, AttentionIsThatOfPaddedSequences) {
  constexpr int64_t heads = 2, head_size = 9, width = heads * head_size;
  const std::vector<std::pair<int64_t, std::vector<int64_t>>> batches = {
      {7, {3, 7, 1}}, {40, {17, 2, 33, 40, 5}}, {200, {132, 200, 133, 1, 70}}, {600, {530, 3, 512}}};
  for (const auto& [dtype, tolerance] : {std::pair(DType::f64, 1e-14), {DType::f32, 1e-6}, {DType::bf16, 1e-2}})
    for (const auto& [longest, lengths] : batches)
      for (const double dropout : {0.0, 0.3}) {
        const auto batch = static_cast<int64_t>(lengths.size());
        const Sequences s = sequences(longest, lengths);
        Random random(RandomKey{5, 6});
        const Variable x(random_normal({s.rows.dim(0), 3 * width}, random).to(dtype), true);
        const Tensor seed = random_normal({s.rows.dim(0), width}, random).to(dtype);
        const AttentionOptions options{.heads = heads, .dropout = dropout, .random = {3, 4}};
        AttentionOptions padded = options, unpadded = options;
        padded.key_mask = s.mask;
        unpadded.starts = s.starts;
        unpadded.longest = longest;
        const Variable got = attention(x, unpadded);
        const Variable whole =
            attention(reshape(scatter_rows(x, s.rows, batch * longest), {batch, longest, 3 * width}), padded);
        const Variable want = gather_rows(reshape(whole, {batch * longest, width}), s.rows);
        const std::string what = text(dtype, ", ", longest, " tokens, dropout ", dropout);
        expect_close(got.data(), want.data(), tolerance, 1, what);
        expect_close(gradients({got}, {seed}, {x})[0], gradients({want}, {seed}, {x})[0], tolerance, 1, what);
      }
}

TEST(Unpadded, DropoutIsThatOfPaddedRows) {
  const Sequences s = sequences(50, {3, 50, 1, 20, 49});
  for (const int64_t width : {1, 6, 128, 300})
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      Random random(RandomKey{5, 6});
      const Variable x(random_normal({s.rows.dim(0), width}, random).to(dtype), true);
      const Variable got = dropout(x, 0.3, {3, 4}, s.rows);
      const Variable want = gather_rows(dropout(scatter_rows(x, s.rows, 250), 0.3, {3, 4}), s.rows);
      EXPECT_TRUE(same_bits({got.data()}, {want.data()})) << dtype << ", width " << width;
      EXPECT_TRUE(same_bits(gradients({got}, {x.data()}, {x}), gradients({want}, {x.data()}, {x})));
    }
}

TEST(Unpadded, AttentionRefusesWhatDoesNotFit) {
  const Variable x(Tensor::zeros({5, 12}, DType::f32));
  const auto message = [&](const Tensor& starts, int64_t longest, const Tensor& mask = {}, const Variable& qkv = {}) {
    return message_of([&] {
      attention(qkv.defined() ? qkv : x, {.heads = 2, .key_mask = mask, .starts = starts, .longest = longest});
    });
  };
  const Tensor starts = Tensor::from<int64_t>({3}, {0, 4, 5});
  EXPECT_CONTAINS(message(starts, 3), "sequence 0 has 4 tokens, 0 to 3 are possible");
  EXPECT_CONTAINS(message(Tensor::from<int64_t>({3}, {0, 6, 5}), 9), "sequence 1 has -1 tokens");
  EXPECT_CONTAINS(message(Tensor::from<int64_t>({3}, {0, 4, 6}), 9), "(5, 12) float32, they go from 0 to 6");
  EXPECT_CONTAINS(message(Tensor::from<int64_t>({3}, {1, 4, 5}), 9), "they go from 1 to 5");
  EXPECT_CONTAINS(message(Tensor::from<int32_t>({3}, {0, 4, 5}), 9), "(B + 1) int64, got (3) int32");
  EXPECT_CONTAINS(message(Tensor::zeros({0}, DType::i64), 9), "(B + 1) int64, got (0) int64");
  EXPECT_CONTAINS(message(starts, 9, Tensor::full({2, 9}, DType::u8, 1)), "no key_mask");
  EXPECT_CONTAINS(message(starts, 9, {}, Variable(Tensor::zeros({1, 5, 12}, DType::f32))), "(1, 5, 12) float32");
  EXPECT_EQ(attention(x, {.heads = 2, .starts = starts, .longest = 4}).shape(), (Shape{5, 4}));
}

}  // namespace
}  // namespace duet::ops
