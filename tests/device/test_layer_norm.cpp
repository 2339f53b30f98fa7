#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "duet/autograd/engine.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/layer_norm.h"
#include "duet/tests/device.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

using testing::device;

// More rows than the device has warps for at once, with a gradient that joins on the way.
TEST(DeviceLayerNorm, GoesThroughManyRows) {
  const Shape shape{5003, 24};
  const bool cudnn = testing::with_cudnn_layer_norm();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Random random(RandomKey{8, 8});
    const Tensor x = random_normal(shape, random).to(dtype), dy = random_normal(shape, random).to(dtype);
    const auto gradients = [&](DType in, DType of_parameters, Device where) {
      const Variable a(x.to(in).to(where), true), zero(Tensor::zeros(shape, in, where));
      const Variable weight(Tensor::full({24}, of_parameters, 1.5, where), true);
      const Variable bias(Tensor::full({24}, of_parameters, 0.5, where), true);
      const AddLayerNorm both = add_layer_norm(a, zero, weight, bias, 1e-5);
      backward(add(both.normalised, both.sum), dy.to(in).to(where));
      return std::vector{a.gradient().to(Device{}), weight.gradient().to(Device{}), bias.gradient().to(Device{})};
    };
    const auto got = gradients(dtype, DType::f32, device()), want = gradients(DType::f64, DType::f64, Device{});
    for (size_t k = 0; k < 3; ++k)
      for (int64_t i = 0; i < want[k].numel(); ++i) {
        double allowed = 1e-3;
        if (dtype == DType::bf16) allowed += std::abs(want[k].at(i)) / 128;
        // cuDNN rounds its part of x's gradient before the one that joins is added: half a last place of that part.
        if (dtype == DType::bf16 && k == 0 && cudnn) allowed += std::abs(want[k].at(i) - dy.at(i)) / 256;
        ASSERT_NEAR(got[k].at(i), want[k].at(i), allowed) << dtype << " gradient " << k << " element " << i;
      }
  }
}

}  // namespace
}  // namespace duet::ops
