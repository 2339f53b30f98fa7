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

std::vector<OpCase> rows(bool cpu_only) {
  std::vector<OpCase> result;
  for (const OpCase& row : op_cases())
    if (row.cpu_only == cpu_only) result.push_back(row);
  return result;
}

INSTANTIATE_TEST_SUITE_P(Rows, DeviceOpTable, ::testing::ValuesIn(rows(false)),
                         [](const auto& param) { return param.param.name(); });

TEST(DeviceOpCoverage, OpsForTheCpuAloneSaySo) {
  EXPECT_FALSE(rows(true).empty());
  for (const OpCase& row : rows(true)) {
    std::string message;
    try {
      run(row, inputs_for(row, row.sizes[0], DType::f32), testing::device());
    } catch (const Error& e) {
      message = e.what();
    }
    EXPECT_TRUE(message.starts_with("[" + row.op + "] ") && message.find("CPU only") != message.npos)
        << row.name() << ": " << message;
  }
}

}  // namespace
}  // namespace duet::ops
