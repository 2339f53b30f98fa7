#pragma once

#include <string>
#include <vector>

#include "duet/tests/ops/op_cases.h"

// Runs rows of the op table; what the tests of every backend share.
namespace duet::ops {

// A backend and dtype that every row runs on. Tolerances are relative to the largest element of the tensor.
struct Setting {
  Device device;
  DType dtype;
  double value_tolerance, gradient_tolerance;
  double magnitude = 0;  // the least to which tolerances are relative, where the row asks for less
};

// What activations in bfloat16 allow on any device: inputs of products, and results, are rounded to eight bits.
Setting bfloat16_setting(Device device);

struct OpResult {
  std::vector<Tensor> values, gradients;
};

// The row's inputs for these sizes, the same numbers every time.
OpInputs inputs_for(const OpCase& row, const Sizes& sizes, DType dtype);
std::string text_of(const OpCase& row, const Sizes& sizes, const Setting& setting);
std::vector<Sizes> all_sizes(const OpCase& row);

// Forward and backward with fixed random output gradients, the same numbers for every dtype, on the device. The results
// are on the CPU.
OpResult run(const OpCase& row, const OpInputs& inputs, Device device = {});

void expect_close(const Tensor& got, const Tensor& want, double tolerance, double magnitude, const std::string& what);
bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b);

// All sizes of a row against the naive loop, and against the gradients in float64 on the CPU.
void check_values(const OpCase& row, const Setting& setting);
void check_gradients(const OpCase& row, const Setting& setting);

}  // namespace duet::ops
