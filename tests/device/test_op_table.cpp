#include <gtest/gtest.h>

#include "duet/tests/device.h"
#include "duet/tests/ops/op_runner.h"

// Every row of the op table on the GPU, or under its emulation: values against the naive loop, gradients against the
// CPU in float64, the same bits in every run.
namespace duet::ops {
namespace {

// float32 is summed in another order than on the CPU.
std::vector<Setting> settings() {
  return {{testing::device(), DType::f32, 4e-6, 2e-5}, bfloat16_setting(testing::device())};
}

class DeviceOpTable : public ::testing::TestWithParam<OpCase> {};

TEST_P(DeviceOpTable, ValuesMatchTheNaiveLoop) {
  for (const Setting& setting : settings()) check_values(GetParam(), setting);
}

TEST_P(DeviceOpTable, GradientsMatchFloat64) {
  for (const Setting& setting : settings()) check_gradients(GetParam(), setting);
}

TEST_P(DeviceOpTable, RepeatsBitForBit) {
  const OpCase& row = GetParam();
  for (const Setting& setting : settings()) {
    const OpInputs inputs = inputs_for(row, row.large, setting.dtype);
    const OpResult first = run(row, inputs, setting.device), second = run(row, inputs, setting.device);
    EXPECT_TRUE(same_bits(first.values, second.values) && same_bits(first.gradients, second.gradients))
        << text_of(row, row.large, setting);
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, DeviceOpTable, ::testing::ValuesIn(op_cases()),
                         [](const auto& param) { return param.param.name(); });

}  // namespace
}  // namespace duet::ops
