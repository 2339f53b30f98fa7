#pragma once

#include <functional>
#include <string>
#include <vector>

#include "duet/autograd/variable.h"
#include "duet/core/philox.h"

// The op table: one row per op and variant. The tests run every row on every backend and dtype, and the benchmarks
// time it. A public op without a row fails the suite.
namespace duet::ops {

// What an op is called with.
struct OpInputs {
  std::vector<Tensor> trainable;  // its differentiable inputs
  std::vector<Tensor> constant;   // other floating tensors, e.g. class weights
  std::vector<Tensor> indices;    // ids, labels and masks

  std::vector<size_t> parameters;  // which of the trainable ones are weights, float32 where activations are bfloat16

  // The same inputs in another floating dtype; indices stay.
  OpInputs to(DType dtype) const;
  OpInputs to(Device device) const;
};

// The numbers that a row builds its shapes from; what they mean is the row's business.
using Sizes = std::vector<int64_t>;

struct OpCase {
  std::string op;            // the function in ops/*.h
  std::string variant;       // what is special about this row; may be empty
  std::vector<Sizes> sizes;  // small ones: every element is checked, by value and by gradient
  Sizes large;               // enough work for several threads; also what a benchmark times
  // Random float64 inputs for the sizes.
  std::function<OpInputs(const Sizes&, Random&)> make;
  // Calls the op; x are the trainable inputs as variables.
  std::function<std::vector<Variable>(const std::vector<Variable>& x, const OpInputs& in)> run;
  // The same in plain float64 loops that share nothing with the op.
  std::function<std::vector<Tensor>(const OpInputs& in)> reference;
  // Calls the op wrongly; the message must contain these besides the op's name.
  std::function<void()> mistake;
  std::vector<std::string> message;
  // Whether the bits are promised to be the same for any number of threads; false where a matrix product is inside.
  bool any_thread_count = true;
  // How large the numbers are that the op adds up, when they may cancel to less: rounding errors scale with them.
  double magnitude = 1e-2;
  // False where the gradient is defined to differ from the derivative, which a test of its own covers.
  bool true_derivative = true;
  // Whether only the CPU can do it: on a GPU the op refuses, saying so.
  bool cpu_only = false;

  std::string name() const;  // "linear_gelu"
};

const std::vector<OpCase>& op_cases();

// The rows by file.
std::vector<OpCase> matrix_cases();       // linear, feed_forward, matmul, attention, patch_embedding
std::vector<OpCase> row_cases();          // softmax, norms, reductions, cross_entropy
std::vector<OpCase> elementwise_cases();  // gelu, tanh, exp, dropout, arithmetic, cast
std::vector<OpCase> layout_cases();       // embedding, gather_rows, scatter_rows, concat, slice, reshape

// Helpers to write rows with.
Shape shape_of(const Sizes& sizes);
Tensor random_normal(const Shape& shape, Random& random, double deviation = 1);
Tensor random_away_from_zero(const Shape& shape, Random& random);  // magnitude in [0.5, 2]
Tensor random_indices(const Shape& shape, int64_t below, DType dtype, Random& random);
// Rows and width of a float64 tensor whose last dimension is the row.
Rows<double> rows64(const Tensor& x);
Tensor zeros64(const Shape& shape);

}  // namespace duet::ops
