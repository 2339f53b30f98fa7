#include <gtest/gtest.h>

#include <limits>

#include "duet/autograd/engine.h"
#include "duet/core/backend.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/embedding.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/matmul.h"
#include "duet/tests/device.h"
#include "duet/tests/train/expect.h"

namespace duet {
namespace {

using testing::device;
using train::message_of;

TEST(DeviceTensor, CopiesThereAndBack) {
  const Tensor host = Tensor::from<int64_t>({2, 3}, {1, -2, 3, 4, 5, std::numeric_limits<int64_t>::min()});
  const Tensor there = host.to(device());
  EXPECT_EQ(there.device(), device());
  const Tensor again = there.clone().to(Device{});
  for (int64_t i = 0; i < host.numel(); ++i) EXPECT_EQ(again.data<int64_t>()[i], host.data<int64_t>()[i]);
  EXPECT_EQ(there.at(1), -2);
  EXPECT_EQ(there.rows_view(1, 2).at(0), 4);
}

TEST(DeviceTensor, FillsAndZeroes) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8}) {
    const Tensor tensor = Tensor::full({3, 1001}, dtype, 7, device());
    EXPECT_EQ(tensor.at(0), 7);
    EXPECT_EQ(tensor.at(3002), 7);
    EXPECT_EQ(Tensor::zeros({5}, dtype, device()).at(4), 0);
  }
}

TEST(DeviceTensor, ConvertsAsTheCpuDoes) {
  const std::vector<double> values = {0, 1, 2.5, 3.25, 100, 200.7, 1.00390625, 1.01171875};
  const Tensor host = Tensor::from({8}, values);
  const std::vector<DType> all = {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8};
  for (const DType from : all)
    for (const DType to : all) {
      const Tensor want = host.to(from).to(to), got = host.to(from).to(device()).to(to).to(Device{});
      for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(got.at(i), want.at(i)) << from << " to " << to << ", " << values[i];
    }
}

TEST(DeviceTensor, ValuesOfADeviceTensorAreRefused) {
  const Tensor there = Tensor::zeros({2}, DType::f32, device());
  EXPECT_CONTAINS(message_of([&] { there.values<float>(); }), "not on the CPU");
}

TEST(DeviceNames, AreChecked) {
  EXPECT_CONTAINS(message_of([] { parse_device("cuda:63"); }), "there is no device cuda:63");
  EXPECT_CONTAINS(message_of([] { parse_device("cuda:"); }), "unknown device");
  EXPECT_CONTAINS(message_of([] { parse_device("cuda:1x"); }), "unknown device");
  EXPECT_CONTAINS(message_of([] { parse_device("gpu"); }), "unknown device");
}

// Kernels cannot throw: what they find comes out with the next wait, once.
TEST(DeviceFindings, AnIdOutsideTheVocabularyIsNamed) {
  const Variable table(Tensor::zeros({4, 3}, DType::f32, device()));
  const Variable y = ops::embedding(Tensor::from<int32_t>({3}, {1, 9, 2}).to(device()), table);
  EXPECT_CONTAINS(message_of([] { synchronize(device()); }), "id 9 at position 1 is outside the vocabulary of 4");
  synchronize(device());
  EXPECT_EQ(y.data().at(3), 0);
  ops::gather_rows(table, Tensor::from<int64_t>({1}, {-1}).to(device()));
  EXPECT_CONTAINS(message_of([&] { y.data().item(); }), "item() wants one element");
  EXPECT_CONTAINS(message_of([&] { y.data().at(0); }), "id -1 at position 0");
}

TEST(DeviceFindings, ALabelThatIsNoClassIsNamed) {
  const Variable logits(Tensor::zeros({2, 3}, DType::f32, device()));
  const Variable loss = ops::cross_entropy(logits, Tensor::from<int64_t>({2}, {0, 3}).to(device()));
  EXPECT_CONTAINS(message_of([&] { loss.data().item(); }), "label 3 of row 1 is outside the 3 classes");
}

TEST(DeviceAllocator, ReusesBlocksAndCountsThem) {
  CachingAllocator& allocator_here = allocator(CudaContext{device().index});
  { const Tensor warm = Tensor::empty({12345}, DType::f32, device()); }
  const AllocatorStats before = allocator_here.stats();
  for (int i = 0; i < 10; ++i) const Tensor again = Tensor::empty({12345}, DType::f32, device());
  const AllocatorStats after = allocator_here.stats();
  EXPECT_EQ(after.requests - before.requests, 10);
  EXPECT_EQ(after.system_allocations, before.system_allocations);
  EXPECT_EQ(after.in_use_bytes, before.in_use_bytes);
}

TEST(DeviceAllocator, OutOfMemorySaysWhatIsInUse) {
  const std::string message = message_of([] { Tensor::empty({int64_t{1} << 50}, DType::u8, device()); });
  EXPECT_CONTAINS(message, "out of GPU memory");
  EXPECT_CONTAINS(message, "bytes in use");
  EXPECT_CONTAINS(message, "cached");
  EXPECT_EQ(Tensor::full({2}, DType::f32, 3, device()).at(1), 3);  // and the device still works
}

TEST(DeviceAllocator, TrimGivesBlocksBack) {
  CachingAllocator& allocator_here = allocator(CudaContext{device().index});
  { const Tensor large = Tensor::full({int64_t{1} << 24}, DType::u8, 1, device()); }
  const AllocatorStats before = allocator_here.stats();
  const int64_t free_before = describe(CudaContext{0}).free_bytes;
  EXPECT_GE(before.reserved_bytes - before.in_use_bytes, int64_t{1} << 24);
  allocator_here.trim();
  EXPECT_EQ(allocator_here.stats().reserved_bytes, before.in_use_bytes);
  EXPECT_GE(describe(CudaContext{0}).free_bytes - free_before, int64_t{1} << 23);  // the driver keeps pages of its own
  EXPECT_EQ(Tensor::full({3}, DType::f32, 4, device()).at(2), 4);
}

TEST(DeviceDispatch, MixedDevicesAreRefused) {
  const Variable a(Tensor::zeros({2, 2}, DType::f32, device())), b(Tensor::zeros({2, 2}, DType::f32));
  EXPECT_CONTAINS(message_of([&] { ops::matmul(a, b); }),
                  "[matmul] (2, 2) float32 is on cuda:0, (2, 2) float32 on cpu");
}

}  // namespace
}  // namespace duet
