#include "duet/tests/ops/op_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "duet/autograd/engine.h"

namespace duet::ops {

OpInputs inputs_for(const OpCase& row, const Sizes& sizes, DType dtype) {
  RandomKey key = RandomKey{42, 0}.child(row.name());
  for (const int64_t size : sizes) key = key.child(static_cast<uint64_t>(size));
  Random random(key);
  OpInputs inputs = row.make(sizes, random);
  return inputs.to(dtype);
}

Setting bfloat16_setting(Device device) {
  return {device, DType::bf16, 1.2e-2, 3e-2, 0.2};
}

std::string text_of(const OpCase& row, const Sizes& sizes, const Setting& setting) {
  return text(row.name(), ' ', shape_of(sizes).rank() ? text(shape_of(sizes)) : "()", ' ', setting.device, ' ',
              setting.dtype);
}

OpResult run(const OpCase& row, const OpInputs& given, Device device) {
  const OpInputs inputs = given.to(device);
  std::vector<Variable> x;
  for (const Tensor& t : inputs.trainable) x.emplace_back(t, true);
  const std::vector<Variable> outputs = row.run(x, inputs);
  Random random(RandomKey{9, 9});
  OpResult result;
  std::vector<Tensor> seeds;
  for (const Variable& y : outputs) {
    result.values.push_back(y.data().to(Device{}));
    // bf16 numbers are exact in every floating dtype.
    seeds.push_back(random_normal(y.shape(), random).to(DType::bf16).to(y.dtype()).to(device));
  }
  for (const Tensor& gradient : gradients(outputs, seeds, x))
    result.gradients.push_back(gradient.defined() ? gradient.to(Device{}) : gradient);
  return result;
}

namespace {

double largest(const Tensor& tensor, double result) {
  for (int64_t i = 0; i < tensor.numel(); ++i) result = std::max(result, std::abs(tensor.at(i)));
  return result;
}

}  // namespace

void expect_close(const Tensor& got, const Tensor& want, double tolerance, double magnitude, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  const double limit = tolerance * largest(want, magnitude);
  int64_t worst = -1;
  double error = limit;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double e = std::abs(got.at(i) - want.at(i));
    if (e <= error) continue;  // NaN is not
    worst = i;
    error = e;
  }
  if (worst >= 0)
    ADD_FAILURE() << what << ": element " << worst << " is " << got.at(worst) << ", expected " << want.at(worst)
                  << ", error " << error << " > " << limit;
}

bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); ++i)
    same = a[i].defined() == b[i].defined() &&
           (!a[i].defined() || (a[i].shape() == b[i].shape() && a[i].dtype() == b[i].dtype() &&
                                std::memcmp(a[i].raw(), b[i].raw(), a[i].bytes()) == 0));
  return same;
}

std::vector<Sizes> all_sizes(const OpCase& row) {
  std::vector<Sizes> result = row.sizes;
  result.push_back(row.large);
  return result;
}

void check_values(const OpCase& row, const Setting& setting) {
  for (const Sizes& sizes : all_sizes(row)) {
    const OpInputs inputs = inputs_for(row, sizes, setting.dtype);
    const std::vector<Tensor> want = row.reference(inputs.to(DType::f64));
    const std::vector<Tensor> got = run(row, inputs, setting.device).values;
    ASSERT_EQ(got.size(), want.size());
    // Long sums round more.
    const double tolerance = setting.value_tolerance * (sizes == row.large ? 10 : 1);
    for (size_t i = 0; i < want.size(); ++i)
      expect_close(got[i], want[i], tolerance, std::max(row.magnitude, setting.magnitude),
                   text(text_of(row, sizes, setting), " output ", i));
  }
}

void check_gradients(const OpCase& row, const Setting& setting) {
  for (const Sizes& sizes : all_sizes(row)) {
    const OpInputs inputs = inputs_for(row, sizes, setting.dtype);
    const OpResult want = run(row, inputs.to(DType::f64)), got = run(row, inputs, setting.device);
    ASSERT_EQ(got.gradients.size(), inputs.trainable.size());
    const double tolerance = setting.gradient_tolerance * (sizes == row.large ? 10 : 1);
    for (size_t i = 0; i < inputs.trainable.size(); ++i) {
      ASSERT_EQ(got.gradients[i].defined(), want.gradients[i].defined());
      if (!want.gradients[i].defined()) continue;
      EXPECT_EQ(got.gradients[i].dtype(), inputs.trainable[i].dtype());
      expect_close(got.gradients[i], want.gradients[i], tolerance, std::max(row.magnitude, setting.magnitude),
                   text(text_of(row, sizes, setting), " gradient ", i));
    }
  }
}

}  // namespace duet::ops
