// Correct kernels must run and give the right results.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "duet/tests/emulation/device_vector.h"
#include "duet/tests/emulation/sample_kernels.h"

namespace duet::emulation {

class Emulator : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(take_error(), ""); }
};

std::vector<float> ramp(size_t n) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; i++) values[i] = static_cast<float>(i % 101) - 50;
  return values;
}

TEST_F(Emulator, ElementwiseKernelOfAMillionElements) {
  const int n = (1 << 20) + 3;
  const std::vector<float> x = ramp(n);
  const DeviceVector<float> in(x), out(n);
  const uint64_t threads = statistics().threads;
  ASSERT_EQ(samples::scale(out.get(), in.get(), 2, n), cudaSuccess);
  const std::vector<float> y = out.values();
  for (size_t i = 0; i < x.size(); i++) ASSERT_EQ(y[i], 2 * x[i]) << i;
  EXPECT_EQ(statistics().threads - threads, (n + 255) / 256 * 256);
}

TEST_F(Emulator, BlockReduction) {
  const int rows = 5, columns = 1000;
  const std::vector<float> x = ramp(rows * columns);
  const DeviceVector<float> in(x), out(rows);
  ASSERT_EQ(samples::row_sums(out.get(), in.get(), rows, columns), cudaSuccess);
  const std::vector<float> sums = out.values();
  for (int r = 0; r < rows; r++) {
    EXPECT_EQ(sums[r], std::accumulate(x.begin() + r * columns, x.begin() + (r + 1) * columns, 0.0f)) << r;
  }
}

TEST_F(Emulator, Transposition) {
  const int rows = 70, columns = 45;
  const std::vector<float> x = ramp(rows * columns);
  const DeviceVector<float> in(x), out(x.size());
  ASSERT_EQ(samples::transpose(out.get(), in.get(), rows, columns), cudaSuccess);
  const std::vector<float> y = out.values();
  for (int r = 0; r < rows; r++) {
    for (int c = 0; c < columns; c++) ASSERT_EQ(y[c * rows + r], x[r * columns + c]);
  }
}

TEST_F(Emulator, AtomicsInSharedAndGlobalMemory) {
  const int n = 5000, bins = 37;
  std::vector<int> values(n), expected(bins);
  for (int i = 0; i < n; i++) expected[values[i] = i * i % bins]++;
  const DeviceVector<int> in(values), out(std::vector<int>(bins, 0));
  ASSERT_EQ(samples::histogram(out.get(), in.get(), n, bins), cudaSuccess);
  EXPECT_EQ(out.values(), expected);
}

TEST_F(Emulator, Bf16) {
  const int n = 133;
  std::vector<__nv_bfloat16> a(n), b(n);
  for (int i = 0; i < n; i++) a[i] = __float2bfloat16_rn(i * 0.25f), b[i] = __float2bfloat16_rn(100.0f - i);
  const DeviceVector<__nv_bfloat16> x(a), y(b);
  ASSERT_EQ(samples::add_bf16(y.get(), x.get(), n), cudaSuccess);
  const auto sum = y.values();
  for (int i = 0; i < n; i++) {
    EXPECT_EQ(__bfloat162float(sum[i]), __bfloat162float(__float2bfloat16_rn(i * 0.25f + (100.0f - i)))) << i;
  }
}

TEST_F(Emulator, SixteenByteAccesses) {
  const std::vector<float> x = ramp(64);
  const DeviceVector<float> in(x), out(64);
  ASSERT_EQ(samples::copy_float4(out.get(), in.get(), 64), cudaSuccess);
  EXPECT_EQ(out.values(), x);
}

TEST_F(Emulator, LastBlockReadsWhatTheOthersPublished) {
  const std::vector<float> x = ramp(1000);
  const DeviceVector<float> in(x), partial(7), sum(1);
  const DeviceVector<unsigned> done(std::vector<unsigned>{0});
  ASSERT_EQ(samples::total(sum.get(), partial.get(), done.get(), in.get(), 1000), cudaSuccess);
  EXPECT_EQ(sum.values()[0], std::accumulate(x.begin(), x.end(), 0.0f));
}

TEST_F(Emulator, WarpOperations) {
  const DeviceVector<int> out(256);
  ASSERT_EQ(samples::warp_operations(out.get()), cudaSuccess);
  const std::vector<int> y = out.values();
  unsigned ballot = 0;
  for (unsigned i = 0; i < 32; i++) ballot |= (i * i % 3 == 0 ? 1u : 0u) << i;
  const auto square = [](int x) { return x * x; };
  for (int i = 0; i < 32; i++) {
    EXPECT_EQ(y[i], 25);
    EXPECT_EQ(y[32 + i], square(i < 3 ? i : i - 3));
    EXPECT_EQ(y[64 + i], square(i % 16 < 13 ? i + 3 : i));
    EXPECT_EQ(y[96 + i], square(i ^ 9));
    EXPECT_EQ(static_cast<unsigned>(y[128 + i]), ballot);
    EXPECT_EQ(y[160 + i], 3);
    EXPECT_EQ(y[192 + i], square(i < 16 ? 15 - i : 31));
    EXPECT_EQ(y[224 + i], square(i ^ 1));
  }
}

TEST_F(Emulator, BlockVotes) {
  const DeviceVector<int> out(50);
  ASSERT_EQ(samples::block_votes(out.get(), 50), cudaSuccess);
  for (int value : out.values()) EXPECT_EQ(value, 17 * 100 + 10 + 1);
}

TEST_F(Emulator, WarpsMayExchangeThroughSharedMemory) {
  const DeviceVector<int> out(32);
  ASSERT_EQ(samples::shared_by_warp(out.get(), true), cudaSuccess);
  EXPECT_EQ(out.values()[30], 3);
}

TEST_F(Emulator, ThreeDimensionalLaunch) {
  const DeviceVector<int> out(2 * 3 * 2 * 4 * 3 * 2);
  ASSERT_EQ(samples::launch_shape(out.get(), dim3(2, 3, 2), dim3(4, 3, 2)), cudaSuccess);
  const std::vector<int> y = out.values();
  for (size_t i = 0; i < y.size(); i++) EXPECT_EQ(y[i], static_cast<int>(i / 24 * 10000 + i % 24));
}

TEST_F(Emulator, FullBlocks) {
  const DeviceVector<int> out(1024);
  EXPECT_EQ(samples::launch_shape(out.get(), dim3(1), dim3(1024)), cudaSuccess);
  EXPECT_EQ(out.values()[1023], 1023);
}

TEST_F(Emulator, DevicesDescribeThemselves) {
  int count = 0, value = 0;
  ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 2);
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 1), cudaSuccess);
  EXPECT_STREQ(properties.name, "emulated device");
  ASSERT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  EXPECT_EQ(value, properties.major);
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(Emulator, MemoryIsCountedAndLimited) {
  size_t before = 0, after = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&before, &total), cudaSuccess);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, total), cudaErrorMemoryAllocation);
  cudaGetLastError();
  {
    const DeviceVector<char> some(1 << 20);
    ASSERT_EQ(cudaMemGetInfo(&after, &total), cudaSuccess);
    EXPECT_GE(before - after, size_t{1} << 20);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(some.get()) % 256, 0u);
  }
  ASSERT_EQ(cudaMemGetInfo(&after, &total), cudaSuccess);
  EXPECT_EQ(before, after);
}

TEST_F(Emulator, ManyAllocationsReuseMemory) {
  for (int i = 0; i < 400; i++) {
    const DeviceVector<char> a(40 << 20), b((i % 7 + 1) << 18);
    ASSERT_NE(a.get(), nullptr);
  }
  EXPECT_EQ(statistics().bytes, 0u);
}

}  // namespace duet::emulation
