#include <gtest/gtest.h>

#include <string>

#include "duet/autograd/engine.h"
#include "duet/core/trace.h"
#include "duet/ops/layer_norm.h"
#include "duet/tests/device.h"

namespace duet {
namespace {

using testing::device;

TEST(DeviceTrace, KernelsStandUnderTheirOpInTheOrderOfTheStream) {
  const auto leaf = [](const Shape& shape) {
    return Variable(Tensor::full(shape, DType::f32, 0.5).to(device()), true);
  };
  const Variable x = leaf({4, 8}), w = leaf({8}), b = leaf({8});
  const Tensor seed = Tensor::full({4, 8}, DType::f32, 1).to(device());
  start_trace(device());
  gradients({ops::layer_norm(x, w, b, 1e-5)}, {seed}, {});
  const Trace trace = stop_trace();
  ASSERT_GE(trace.kernels.size(), 2u);
  double last = 0;
  for (const KernelSpan& k : trace.kernels) {
    EXPECT_STREQ(k.op, "layer_norm") << k.kernel;
    EXPECT_NE(std::string(k.kernel), "");
    EXPECT_LE(last, k.begin + 1e-6);  // times are read as floats of milliseconds
    EXPECT_LE(k.begin, k.end);
    last = k.end;
  }
  int64_t host_end = 0;
  for (const TraceEvent& e : trace.events) host_end = std::max(host_end, e.end);
  EXPECT_GT(host_end, 0);
  EXPECT_LT(last, 60);
  EXPECT_FALSE(trace.memory.empty());
  EXPECT_STREQ(trace.memory[0].allocator, "GPU");
  // Nothing is left over for the next.
  start_trace(device());
  EXPECT_TRUE(stop_trace().kernels.empty());
}

}  // namespace
}  // namespace duet
