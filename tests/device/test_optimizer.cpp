#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "duet/autograd/accumulate.h"
#include "duet/tests/device.h"
#include "duet/tests/ops/op_cases.h"
#include "duet/tests/train/expect.h"
#include "duet/train/adam_kernel.h"

// The fused optimizer over more tensors than a launch takes and more blocks than the last sum has threads; some tensors
// are empty, some longer than a block's share.
namespace duet::train {
namespace {

using ops::random_normal;
using testing::device;

const CudaContext here{0};

std::vector<int64_t> counts() {
  std::vector<int64_t> result = {1, 3, 0, 4, 16384, 16385, 40007, 0};
  for (int64_t i = 0; i < 310; ++i) result.push_back(i % 13);
  return result;
}

struct Parameters {
  std::vector<Tensor> theta, exp_avg, exp_avg_sq, gradient;

  explicit Parameters(Device where) {
    Random random(RandomKey{4, 4});
    for (const int64_t count : counts())
      for (auto* tensors : {&theta, &exp_avg, &exp_avg_sq, &gradient}) {
        const Tensor values = random_normal({count}, random);
        if (tensors == &exp_avg_sq)
          for (double& v : values.values<double>()) v *= v;
        tensors->push_back(values.to(DType::f32).to(where));
      }
  }
  std::vector<AdamSlot<float>> slots() const {
    std::vector<AdamSlot<float>> result;
    for (size_t i = 0; i < theta.size(); ++i)
      result.push_back({theta[i].data<float>(), exp_avg[i].data<float>(), exp_avg_sq[i].data<float>(),
                        gradient[i].data<float>(), theta[i].numel(), static_cast<double>(1 + i % 3),
                        i % 2 ? 0.1 : 0.0});
    return result;
  }
  std::vector<GradientSpan<float>> spans() const {
    std::vector<GradientSpan<float>> result;
    for (const Tensor& g : gradient) result.push_back({g.data<float>(), g.numel()});
    return result;
  }
};

Tensor on_device(const AdamStep& step) {
  return Tensor::from<double>({3}, {step.rate, step.correction1, step.correction2}).to(device());
}
const AdamStep* pointer(const Tensor& step) {
  static_assert(sizeof(AdamStep) == 3 * sizeof(double));
  return reinterpret_cast<const AdamStep*>(step.data<double>());
}

// Within `tolerance` or eight units in the last place. Where the second moment is next to nothing a parameter leaps far
// beyond the others.
void expect_same(const std::vector<Tensor>& got, const std::vector<Tensor>& want, double tolerance) {
  const double last_places = tolerance > 0 ? 8 * 0x1p-24 : 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const Tensor host = got[i].to(Device{});
    for (int64_t j = 0; j < want[i].numel(); ++j)
      ASSERT_NEAR(host.at(j), want[i].at(j), std::max(tolerance, last_places * std::abs(want[i].at(j))))
          << "tensor " << i << ", element " << j;
  }
}

TEST(DeviceAdam, UpdatesAsTheCpuDoes) {
  for (const bool decoupled : {true, false}) {
    const Parameters on_cpu(Device{}), there(device());
    const AdamConstants constants{0.9, 0.99, 1e-8, decoupled};
    const AdamStep step{0.01, 1 - std::pow(0.9, 3), std::sqrt(1 - std::pow(0.99, 3))};
    adam_update<float>(CpuContext{}, on_cpu.slots(), constants, &step, {});
    adam_update<float>(here, there.slots(), constants, pointer(on_device(step)), {});
    expect_same(there.theta, on_cpu.theta, 1e-5);
    expect_same(there.exp_avg, on_cpu.exp_avg, 1e-6);
    expect_same(there.exp_avg_sq, on_cpu.exp_avg_sq, 1e-5);
    expect_same(there.gradient, on_cpu.gradient, 0);
  }
}

// eps decides where the gradient is next to nothing.
TEST(DeviceAdam, EpsIsAddedAfterTheCorrection) {
  const auto one = [](double value) { return Tensor::full({4}, DType::f32, value, device()); };
  const Tensor theta = one(0), m = one(0), v = one(0), g = one(1e-6);
  const AdamStep step{1, 1 - 0.9, std::sqrt(1 - 0.999)};
  adam_update<float>(here, {{theta.data<float>(), m.data<float>(), v.data<float>(), g.data<float>(), 4, 1.0, 0.0}},
                     {0.9, 0.999, 1e-6, true}, pointer(on_device(step)), {});
  EXPECT_NEAR(theta.at(3), -0.5, 1e-4);  // g / (g + eps)
}

// 1 - beta is taken in double: in float 1 - 0.999 is off by 5e-5 of itself.
TEST(DeviceAdam, RestsAreRoundedOnce) {
  const auto one = [](double value) { return Tensor::full({4}, DType::f32, value, device()); };
  const Tensor theta = one(0), m = one(0), v = one(0), g = one(1);
  const AdamStep step{1, 1 - 0.9, std::sqrt(1 - 0.999)};
  adam_update<float>(here, {{theta.data<float>(), m.data<float>(), v.data<float>(), g.data<float>(), 4, 1.0, 0.0}},
                     {0.9, 0.999, 1e-8, true}, pointer(on_device(step)), {});
  EXPECT_FLOAT_EQ(static_cast<float>(m.at(0)), 0.1f);
  EXPECT_FLOAT_EQ(static_cast<float>(v.at(3)), 0.001f);
}

TEST(DeviceAdam, RefusesMisalignedMemory) {
  const Tensor x = Tensor::zeros({8}, DType::f32, device());
  float* p = x.data<float>();
  EXPECT_CONTAINS(message_of([&] {
                    adam_update<float>(here, {{p, p, p, p + 1, 4, 1.0, 0.0}}, {0.9, 0.99, 1e-8, true}, nullptr, {});
                  }),
                  "not aligned to 16 bytes");
}

// Small norms are not enlarged, 0 means no clipping, and a norm that is not finite changes nothing.
TEST(DeviceAdam, ClipsAsTheCpuDoes) {
  for (const double max_norm : {0.0, 1.0, 1e6}) {
    for (const double norm : {0.5, 50.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
      const Parameters on_cpu(Device{}), there(device());
      const AdamConstants constants{0.9, 0.99, 1e-8, false};
      const AdamStep step{0.01, 1 - 0.9, std::sqrt(1 - 0.99)};
      adam_update<float>(CpuContext{}, on_cpu.slots(), constants, &step, {&norm, max_norm});
      const Tensor norm_there = Tensor::full({}, DType::f64, norm, device());
      adam_update<float>(here, there.slots(), constants, pointer(on_device(step)),
                         {norm_there.data<double>(), max_norm});
      expect_same(there.exp_avg, on_cpu.exp_avg, 1e-6);
      expect_same(there.theta, on_cpu.theta, 1e-5);
      expect_same(there.gradient, on_cpu.gradient, 0);
    }
  }
}

TEST(DeviceClip, NormIsThatOfTheCpu) {
  const Parameters on_cpu(Device{}), there(device());
  double want = 0;
  gradient_norm<float>(CpuContext{}, on_cpu.spans(), &want);
  const Tensor norm = Tensor::zeros({}, DType::f64, device());
  gradient_norm<float>(here, there.spans(), norm.data<double>());
  EXPECT_NEAR(norm.item(), want, 1e-9 * want);
  gradient_norm<float>(here, {}, norm.data<double>());
  EXPECT_EQ(norm.item(), 0);
}

TEST(DeviceClip, NormOfInfinityIsInfinite) {
  const Tensor g = Tensor::full({5}, DType::f32, 3, device()), norm = Tensor::zeros({}, DType::f64, device());
  g.rows_view(2, 3).fill(std::numeric_limits<double>::infinity());
  gradient_norm<float>(here, {{g.data<float>(), 5}}, norm.data<double>());
  EXPECT_TRUE(std::isinf(norm.item()));
}

// Large squares must not hide small ones: the sum is in double.
TEST(DeviceClip, NormIsSummedInDouble) {
  std::vector<float> values(40000, 1.0f);
  for (size_t i = 0; i < 256; ++i) values[i] = 8192;
  const Tensor g = Tensor::from({40000}, values).to(device()), norm = Tensor::zeros({}, DType::f64, device());
  gradient_norm<float>(here, {{g.data<float>(), 40000}}, norm.data<double>());
  EXPECT_NEAR(norm.item() * norm.item(), 256 * 0x1p26 + 39744, 1);
}

TEST(DeviceAccumulate, AddsInPlaceOnlyWhatIsItsOwn) {
  for (const int64_t count : {0, 1, 1021, 1024}) {
    Tensor total;
    const Tensor first = Tensor::full({count}, DType::f32, 2, device());
    accumulate(total, first);
    accumulate(total, Tensor::full({count}, DType::f32, 5, device()));  // `first` looks at the same memory
    const std::byte* own = total.raw();
    accumulate(total, Tensor::full({count}, DType::f32, -1, device()));
    EXPECT_EQ(total.raw(), own);
    for (const int64_t i : {int64_t{0}, count / 2, count - 1}) {
      if (count == 0) continue;
      EXPECT_EQ(total.at(i), 6);
      EXPECT_EQ(first.at(i), 2);
    }
  }
}

}  // namespace
}  // namespace duet::train
