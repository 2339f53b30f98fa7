#pragma once

#include <functional>
#include <string>
#include <vector>

#include "duet/autograd/variable.h"

// What the microbenchmarks time: every op of the op table (tests/ops/op_cases.h) at the shapes that it has in the
// preset models, or at their hidden sizes.
namespace duet::bench {

// One forward pass over inputs that were made before.
using Call = std::function<Variable()>;

struct Case {
  std::string op;     // the function in ops/*.h
  std::string shape;  // the model, what is special, and sizes: "vit-base.qkv:1576x768x2304"
  // Makes the inputs in the dtype of activations. Parameters are float32 where activations are bfloat16.
  std::function<Call(DType)> make;
  bool float32_only = false;
};

std::vector<Case> all_cases();

// The cases by file.
void add_matrix_cases(std::vector<Case>& cases);       // linear, feed_forward, matmul, attention, ...
void add_row_cases(std::vector<Case>& cases);          // softmax, norms, reductions, cross_entropy
void add_elementwise_cases(std::vector<Case>& cases);  // gelu, tanh, exp, dropout, arithmetic, cast
void add_layout_cases(std::vector<Case>& cases);       // embedding, gathers, concat, slice, reshape, mean_tokens
void add_optimizer_cases(std::vector<Case>& cases);    // Adam, the gradient's norm

// What the encoder layers of a model see.
struct Model {
  const char* name;
  int64_t batch, tokens, width, heads;

  int64_t rows() const { return batch * tokens; }
};
inline constexpr Model vit_base{"vit-base", 8, 197, 768, 12}, bert_base{"bert-base", 8, 128, 768, 12};
inline constexpr Model vit_tiny{"vit-tiny", 16, 197, 192, 3}, bert_tiny{"bert-tiny", 16, 64, 256, 4};
inline constexpr Model vit_mini{"vit-mini", 32, 65, 96, 3}, bert_mini{"bert-mini", 32, 24, 128, 4};
inline constexpr Model models[]{vit_base, bert_base, vit_tiny, bert_tiny, vit_mini, bert_mini};
inline constexpr Model text_models[]{bert_base, bert_tiny, bert_mini};
// A size's encoders side by side.
struct Pair {
  const char* name;
  Model vision, text;
  int64_t projection;  // width that contrastive pretraining compares them in
};
inline constexpr Pair pairs[]{
    {"base", vit_base, bert_base, 512}, {"tiny", vit_tiny, bert_tiny, 256}, {"mini", vit_mini, bert_mini, 128}};
inline constexpr int64_t vocabulary = 30522;

// "model.detail:1576x768", without the detail where it is empty.
std::string label(const std::string& model, const std::string& detail, const std::vector<int64_t>& sizes);

// Numbers in [-0.5, 0.5), the same every time.
Variable random(const Shape& shape, DType dtype, bool trainable = true);
Variable parameter(const Shape& shape, DType activations);
Tensor random_ids(const Shape& shape, int64_t end);

}  // namespace duet::bench
