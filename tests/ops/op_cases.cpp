#include "duet/tests/ops/op_cases.h"

#include <algorithm>

namespace duet::ops {

OpInputs OpInputs::to(DType dtype) const {
  OpInputs result = *this;
  for (size_t i = 0; i < trainable.size(); ++i) {
    const bool parameter = std::find(parameters.begin(), parameters.end(), i) != parameters.end();
    result.trainable[i] = trainable[i].to(parameter ? wide(dtype) : dtype).clone();
  }
  for (Tensor& tensor : result.constant) tensor = tensor.to(wide(dtype)).clone();
  return result;
}

OpInputs OpInputs::to(Device device) const {
  OpInputs result = *this;
  for (auto* tensors : {&result.trainable, &result.constant, &result.indices})
    for (Tensor& tensor : *tensors) tensor = tensor.to(device);
  return result;
}

std::string OpCase::name() const {
  return variant.empty() ? op : op + "_" + variant;
}

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> all = [] {
    std::vector<OpCase> result;
    for (auto* part : {&matrix_cases, &row_cases, &elementwise_cases, &layout_cases})
      for (OpCase& row : part()) result.push_back(std::move(row));
    return result;
  }();
  return all;
}

Shape shape_of(const Sizes& sizes) {
  Shape shape;
  for (const int64_t size : sizes) shape.append(size);
  return shape;
}

Tensor random_normal(const Shape& shape, Random& random, double deviation) {
  const Tensor tensor = zeros64(shape);
  for (double& v : tensor.values<double>()) v = deviation * random.normal();
  return tensor;
}

Tensor random_away_from_zero(const Shape& shape, Random& random) {
  const Tensor tensor = zeros64(shape);
  for (double& v : tensor.values<double>()) v = (0.5 + 1.5 * random.uniform()) * (random.below(2) ? 1 : -1);
  return tensor;
}

Tensor random_indices(const Shape& shape, int64_t below, DType dtype, Random& random) {
  const Tensor tensor = Tensor::zeros(shape, DType::i64);
  for (int64_t& v : tensor.values<int64_t>()) v = static_cast<int64_t>(random.below(static_cast<uint64_t>(below)));
  return tensor.to(dtype);
}

Rows<double> rows64(const Tensor& x) {
  return rows<double>(x);
}

Tensor zeros64(const Shape& shape) {
  return Tensor::zeros(shape, DType::f64);
}

}  // namespace duet::ops
