#include <gtest/gtest.h>

#include <memory>

#include "duet/core/backend.h"
#include "duet/ops/dropout.h"
#include "duet/tests/device.h"
#include "duet/tests/train/expect.h"

// Copies beside the kernels, and recorded work.
namespace duet {
namespace {

using testing::device;
using train::message_of;

const CudaContext here{0};

std::vector<float> numbers(size_t count, float first) {
  std::vector<float> result(count);
  for (size_t i = 0; i < count; ++i) result[i] = first + static_cast<float>(i % 1000);
  return result;
}

// The buffer is overwritten while kernels still have to read it, and read while it is still being written, unless both
// wait.
TEST(DeviceUpload, KernelsAndCopiesWaitForEachOther) {
  constexpr size_t count = 1 << 16;
  const Tensor buffer = Tensor::zeros({count}, DType::f32, device());
  upload_used(here, 0);  // the zeros must be there first
  std::vector<Tensor> seen;
  for (int round = 0; round < 6; ++round) {
    std::vector<float> values = numbers(count, static_cast<float>(round));
    upload_begin(here, 0, buffer.raw(), values.data(), count * sizeof(float));
    std::fill(values.begin(), values.end(), -1.0f);  // `from` may be changed on return
    upload_await(here, 0);
    seen.push_back(buffer.to(DType::bf16));
    upload_used(here, 0);
  }
  for (int round = 0; round < 6; ++round) {
    const Tensor want = Tensor::from({count}, numbers(count, static_cast<float>(round))).to(DType::bf16);
    const Tensor got = seen[static_cast<size_t>(round)].to(Device{});
    for (int64_t i = 0; i < static_cast<int64_t>(count); i += 97) ASSERT_EQ(got.at(i), want.at(i)) << round << ' ' << i;
  }
}

// One lane's staging memory serves several copies, and grows.
TEST(DeviceUpload, StagingIsNotOverwrittenTooEarly) {
  const Tensor buffer = Tensor::zeros({7, 5000}, DType::f32, device());
  upload_used(here, 1);
  for (int64_t i = 0; i < 7; ++i) {
    const std::vector<float> values = numbers(static_cast<size_t>(5000 - 500 * (i % 3)), static_cast<float>(i));
    upload_begin(here, 1, buffer.rows_view(i, i + 1).raw(), values.data(), values.size() * sizeof(float));
  }
  upload_await(here, 1);
  const Tensor got = buffer.to(Device{});
  for (int64_t i = 0; i < 7; ++i) {
    EXPECT_EQ(got.at(i * 5000), static_cast<double>(i));
    EXPECT_EQ(got.at(i * 5000 + 3999), static_cast<double>(i + 999));
  }
}

// A recorded dropout draws, with every launch, the numbers of that step.
TEST(DeviceGraph, RepeatsWithTheStepsNumbers) {
  const Tensor x = Tensor::full({1000}, DType::f32, 1, device()), y = Tensor::zeros({1000}, DType::f32, device());
  RandomKey key{5, 9, true};
  const auto graph = DeviceGraph::record(here, make_graph_pool(here), [&] {
    ops::dropout_forward<float>(here, x.data<float>(), y.data<float>(), 1000, 0.5f, key);
  });
  EXPECT_EQ(y.at(0), 0);  // recorded, not done
  for (const uint64_t step : {3, 4}) {
    set_step_salt(here, RandomKey::step_salt(step));
    graph->launch();
    const Tensor want = Tensor::zeros({1000}, DType::f32, device());
    ops::dropout_forward<float>(here, x.data<float>(), want.data<float>(), 1000, 0.5f, RandomKey::of_step(5, step, 9));
    for (int64_t i = 0; i < 1000; i += 7) ASSERT_EQ(y.at(i), want.at(i)) << step << ' ' << i;
  }
}

// Memory that recorded work uses belongs to the graph: nobody else gets it, also after the work's tensors are gone.
TEST(DeviceGraph, KeepsItsMemory) {
  const Tensor x = Tensor::full({4096}, DType::f32, 3, device()), y = Tensor::zeros({4096}, DType::f32, device());
  const auto graph = DeviceGraph::record(here, make_graph_pool(here), [&] {
    const Tensor between = x.clone();
    y.copy_from(between);
  });
  const std::vector<Tensor> others(3, Tensor::full({4096}, DType::f32, 7, device()));
  graph->launch();
  EXPECT_EQ(others[0].at(4095), 7);
  EXPECT_EQ(y.at(4095), 3);
}

TEST(DeviceGraph, RefusesCopiesFromAndToTheCpu) {
  const Tensor x = Tensor::full({4}, DType::f32, 3, device()), host = Tensor::zeros({4}, DType::f32);
  EXPECT_CONTAINS(message_of([&] { DeviceGraph::record(here, make_graph_pool(here), [&] { x.at(0); }); }),
                  "a recorded step cannot copy");
  EXPECT_CONTAINS(message_of([&] { DeviceGraph::record(here, make_graph_pool(here), [&] { x.copy_from(host); }); }),
                  "a recorded step cannot copy");
  EXPECT_EQ(x.at(3), 3);  // the device still works
}

}  // namespace
}  // namespace duet
