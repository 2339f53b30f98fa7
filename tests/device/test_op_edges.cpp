#include <gtest/gtest.h>

#include <algorithm>

#include "duet/tests/device.h"
#include "duet/tests/ops/op_runner.h"

// Rows of the op table at the sizes where kernels change their way: rows that fill 16-byte accesses or do not, that
// take a whole block, heads of every compiled size, more tokens than a tile, tables with more rows than blocks.
namespace duet::ops {
namespace {

struct Edge {
  std::string row;
  std::vector<Sizes> sizes;
};

// Names the test, and keeps gtest from printing the bytes.
void PrintTo(const Edge& edge, std::ostream* out) {
  *out << edge.row;
}

const std::vector<Sizes> rows_of_all_kinds = {{5, 8},    {3, 31},   {2, 32},   {133, 24},
                                              {1, 2048}, {2, 2049}, {3, 2056}, {1, 4112}};

std::vector<Edge> edges() {
  // Tokens below, at and above the tiles of every head size, and last tiles of more than a half, a half and a quarter.
  const std::vector<Sizes> attention = {{2, 33, 32}, {1, 40, 33}, {2, 35, 64},  {2, 34, 72}, {1, 65, 128}, {1, 1, 64},
                                        {2, 63, 64}, {2, 64, 62}, {2, 65, 61},  {1, 80, 64}, {1, 96, 64},  {1, 197, 40},
                                        {2, 31, 30}, {2, 32, 32}, {1, 72, 126}, {1, 48, 128}};
  const std::vector<Sizes> elements = {{8}, {515}, {4, 257, 8}};
  std::vector<Edge> result;
  for (const char* row : {"softmax", "add_layer_norm_both", "add_layer_norm_only_sum", "l2_normalize",
                          "l2_normalize_below_eps", "sum_last", "mean_last", "cross_entropy", "cross_entropy_smoothing",
                          "cross_entropy_weights_smoothing", "cross_entropy_ignore"})
    result.push_back({row, rows_of_all_kinds});
  // More rows than blocks take at once, and widths on both sides of what a warp keeps in registers.
  result.push_back({"layer_norm",
                    {{5, 8},
                     {3, 31},
                     {1, 2048},
                     {2, 2049},
                     {3, 2056},
                     {1, 4112},
                     {5000, 8},
                     {9, 128},
                     {9, 129},
                     {9, 512},
                     {9, 516},
                     {9, 1024},
                     {9, 1032}}});
  for (const char* row : {"sum", "mean"}) result.push_back({row, {{8}, {2056}, {3, 700}}});
  for (const char* row : {"attention_one_head", "attention_mask_dropout"}) result.push_back({row, attention});
  result.push_back({"attention_heads", {{2, 70, 64}}});
  result.push_back({"attention_masked_sample", {{3, 70, 40}}});
  for (const char* row : {"gelu_exact", "gelu_tanh", "tanh", "exp", "scale", "dropout", "add", "subtract", "multiply",
                          "divide", "add_broadcast", "divide_broadcast", "multiply_scalar"})
    result.push_back({row, elements});
  for (const char* row : {"linear", "linear_gelu", "linear_gelu_tanh", "linear_no_bias"})
    result.push_back({row, {{8, 8}, {300, 8, 16}, {9, 24, 8}, {700, 3, 36}}});
  for (const char* row : {"feed_forward", "feed_forward_gelu", "feed_forward_gelu_tanh", "feed_forward_gelu_no_bias"})
    result.push_back({row, {{8, 8, 8}, {300, 8, 16, 8}, {9, 24, 8, 3}, {70, 3, 36, 5}}});
  for (const char* row : {"matmul_nn", "matmul_tt"}) result.push_back({row, {{5, 8, 16, 24}, {64, 8, 8}}});
  result.push_back({"patch_embedding", {{3, 3, 2, 3, 4, 24}, {2, 1, 3, 2, 2, 40}}});
  result.push_back({"embedding_int64", {{1500, 8, 1600}, {2, 5, 3000}, {3, 130, 9}}});
  result.push_back({"embedding_int32", {{2, 136, 2600}}});
  result.push_back({"embedding_padding", {{3, 8, 900}}});
  result.push_back({"mean_tokens_mask", {{9, 40, 8}}});
  result.push_back({"concat_last", {{3, 8, 16, 8, 1}, {3, 2, 4, 6, 1}, {5, 3, 8, 1, 1}}});
  result.push_back({"slice_middle", {{3, 9, 8, 1, 8}, {2, 6, 2, 1, 3}}});
  return result;
}

const OpCase& row_named(const std::string& name) {
  for (const OpCase& row : op_cases())
    if (row.name() == name) return row;
  fail("test", "no row ", name, " in the op table");
}

std::vector<Setting> edge_settings() {
  return {{testing::device(), DType::f32, 4e-5, 2e-4}, {testing::device(), DType::bf16, 2e-2, 3e-2, 0.2}};
}

// The same elements at an address that is not a multiple of 16: of 8 for float32, of the element's size for others.
Tensor misaligned(const Tensor& x) {
  const int64_t start = x.dtype() == DType::f32 ? 2 : 1;
  const Tensor room = Tensor::zeros({x.numel() + start}, x.dtype(), testing::device());
  const Tensor view = room.rows_view(start, x.numel() + start).reshape(x.shape());
  view.copy_from(x);
  return view;
}

class DeviceOpEdges : public ::testing::TestWithParam<Edge> {
 protected:
  template <class Move>
  void check_all(Move&& move) {
    const OpCase& row = row_named(GetParam().row);
    for (const Sizes& sizes : GetParam().sizes)
      for (const Setting& setting : edge_settings()) {
        const OpInputs inputs = inputs_for(row, sizes, setting.dtype);
        const OpResult want = run(row, inputs.to(DType::f64)), got = run(row, move(inputs), setting.device);
        const double magnitude = std::max(row.magnitude, setting.magnitude);
        for (size_t i = 0; i < want.values.size(); ++i)
          expect_close(got.values[i], want.values[i], setting.value_tolerance, magnitude,
                       text(text_of(row, sizes, setting), " output ", i));
        for (size_t i = 0; i < want.gradients.size(); ++i) {
          ASSERT_EQ(got.gradients[i].defined(), want.gradients[i].defined());
          if (want.gradients[i].defined())
            expect_close(got.gradients[i], want.gradients[i], setting.gradient_tolerance, magnitude,
                         text(text_of(row, sizes, setting), " gradient ", i));
        }
      }
  }
};

TEST_P(DeviceOpEdges, MatchFloat64) {
  check_all([](const OpInputs& inputs) { return inputs; });
}

// One input at a time, as an aligned one must not speak for the others.
TEST_P(DeviceOpEdges, MatchFloat64AtAnyAddress) {
  size_t moved = 0, inputs_most = 1;
  for (; moved < inputs_most; ++moved)
    check_all([&](const OpInputs& inputs) {
      OpInputs result = inputs;
      inputs_most = inputs.trainable.size();
      result.trainable[moved] = misaligned(result.trainable[moved]);
      for (auto* tensors : {&result.constant, &result.indices})
        for (Tensor& tensor : *tensors) tensor = misaligned(tensor);
      return result;
    });
}

INSTANTIATE_TEST_SUITE_P(Rows, DeviceOpEdges, ::testing::ValuesIn(edges()),
                         [](const auto& param) { return param.param.row; });

}  // namespace
}  // namespace duet::ops
