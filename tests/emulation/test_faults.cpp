// Each planted fault must be found, with a message that names it and where it is.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "duet/tests/emulation/device_vector.h"
#include "duet/tests/emulation/sample_kernels.h"

namespace duet::emulation {

class EmulatorFaults : public ::testing::Test {
 protected:
  EmulatorFaults() { set_deferred(false); }  // a launch returns its own fault
};

TEST_F(EmulatorFaults, MissingBarrier) {
  const DeviceVector<int> out(64);
  EXPECT_FAULT(samples::missing_barrier(out.get()), cudaErrorIllegalAddress, "uninitialised: reads");
  EXPECT_FAULT(samples::missing_second_barrier(out.get()), cudaErrorLaunchFailure,
               "missing_second_barrier_kernel(int*), block (0,0,0), thread (0,0,0)] race: reads");
}

TEST_F(EmulatorFaults, RaceWithinAWarp) {
  const DeviceVector<int> out(32);
  EXPECT_FAULT(samples::shared_by_warp(out.get(), false), cudaErrorIllegalAddress, "values");
}

TEST_F(EmulatorFaults, DivergentBarrier) {
  const DeviceVector<int> out(64);
  EXPECT_FAULT(samples::divergent_barrier(out.get()), cudaErrorLaunchFailure,
               "divergent barrier: thread (0,0,0) waits at __syncthreads, but thread (32,0,0) has returned");
  EXPECT_FAULT(samples::barrier_after_return(out.get()), cudaErrorLaunchFailure, "divergent barrier");
  EXPECT_FAULT(samples::barrier_against_shuffle(out.get()), cudaErrorLaunchTimeout,
               "thread (0,0,0) waits at __shfl_sync with mask 0xffffffff; thread (1,0,0) waits at __syncthreads");
}

TEST_F(EmulatorFaults, WarpOperations) {
  const DeviceVector<int> out(32);
  EXPECT_FAULT(samples::shuffle_from_returned_lane(out.get()), cudaErrorLaunchFailure, "has returned");
  EXPECT_FAULT(samples::shuffle_outside_mask(out.get()), cudaErrorLaunchFailure,
               "reads from lane 20, which is not in the mask 0xffff");
  EXPECT_FAULT(samples::different_warp_operations(out.get()), cudaErrorLaunchFailure, "divergent warp operation");
}

TEST_F(EmulatorFaults, SharedMemory) {
  const DeviceVector<float> out(32);
  const DeviceVector<int> counts(32);
  EXPECT_FAULT(samples::unwritten_shared(out.get()), cudaErrorIllegalAddress, "thread (13,0,0)] uninitialised: reads");
  EXPECT_FAULT(samples::shared_out_of_bounds(counts.get(), 1), cudaErrorIllegalAddress,
               "thread (31,0,0)] out of bounds: index 32 of an array");
}

TEST_F(EmulatorFaults, DynamicSharedMemory) {
  const DeviceVector<int> out(1);
  EXPECT_EQ(samples::dynamic_shared(out.get(), 15, true, 64), cudaSuccess);
  EXPECT_EQ(out.values()[0], 15);
  EXPECT_FAULT(samples::dynamic_shared(out.get(), 16, true, 64), cudaErrorIllegalAddress,
               "out of bounds: writes byte 64 of 64 of dynamic shared memory");
  EXPECT_FAULT(samples::dynamic_shared(out.get(), 3, false, 64), cudaErrorIllegalAddress, "uninitialised: reads");
  EXPECT_EQ(samples::dynamic_shared(out.get(), 12288, true, 49156), cudaErrorInvalidValue);
  EXPECT_EQ(samples::allow_dynamic_shared(232452), cudaErrorInvalidValue);
  EXPECT_EQ(samples::allow_dynamic_shared(49156), cudaSuccess);
  EXPECT_EQ(samples::dynamic_shared(out.get(), 12288, true, 49156), cudaSuccess);
  EXPECT_EQ(out.values()[0], 12288);
}

TEST_F(EmulatorFaults, OutOfBounds) {
  const DeviceVector<float> out(10), in(std::vector<float>(10, 1.0f));
  EXPECT_FAULT(samples::write_at(out.get(), 10), cudaErrorIllegalAddress,
               "0 bytes after the end of the allocation of 40 bytes");
  EXPECT_FAULT(samples::write_at(out.get(), -1), cudaErrorIllegalAddress, "before the start of the allocation of 40");
  EXPECT_FAULT(samples::read_at(out.get(), in.get(), 11), cudaErrorIllegalAddress, "out of bounds: reads 4 bytes");
  EXPECT_FAULT(samples::read_at(out.get(), in.get(), 1LL << 40), cudaErrorIllegalAddress, "reads");
  EXPECT_FAULT(samples::read_at(out.get(), nullptr, 0), cudaErrorIllegalAddress, "null pointer");
  EXPECT_FAULT(samples::scale(out.get(), in.get(), 1, 11), cudaErrorIllegalAddress, "thread (10,0,0)]");
}

TEST_F(EmulatorFaults, PartOfAWordOutOfBounds) {
  const DeviceVector<__nv_bfloat16> y(std::vector<__nv_bfloat16>(5, __float2bfloat16_rn(1)));
  EXPECT_FAULT(samples::add_bf16(y.get(), y.get(), 6), cudaErrorIllegalAddress, "allocation of 10 bytes");
}

TEST_F(EmulatorFaults, UseAfterFree) {
  const DeviceVector<float> out(1);
  float* gone = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&gone), 400);
  cudaMemset(gone, 0, 400);
  EXPECT_EQ(samples::read_at(out.get(), gone, 3), cudaSuccess);
  EXPECT_EQ(cudaFree(gone), cudaSuccess);
  EXPECT_FAULT(samples::read_at(out.get(), gone, 3), cudaErrorIllegalAddress, "use after free: reads 4 bytes");
  EXPECT_FAULT(samples::write_at(gone, 3), cudaErrorIllegalAddress, "offset 12 of the allocation of 400 bytes");
  EXPECT_EQ(cudaFree(gone), cudaErrorInvalidValue);
}

TEST_F(EmulatorFaults, UninitialisedDeviceMemory) {
  const DeviceVector<float> out(4), in(4);
  EXPECT_FAULT(samples::read_at(out.get(), in.get(), 2), cudaErrorIllegalAddress, "uninitialised: reads 4 bytes");
  float host[4];
  EXPECT_FAULT(cudaMemcpy(host, in.get(), 16, cudaMemcpyDeviceToHost), cudaErrorIllegalAddress,
               "[copy] uninitialised: reads");
}

TEST_F(EmulatorFaults, HostMemoryInAKernel) {
  const DeviceVector<float> out(1);
  const std::vector<float> host(8, 1.0f);
  const float on_stack[2] = {1, 2};
  EXPECT_FAULT(samples::read_at(out.get(), host.data(), 1), cudaErrorIllegalAddress, "host memory: reads 4 bytes");
  EXPECT_FAULT(samples::read_at(out.get(), on_stack, 1), cudaErrorIllegalAddress, "host memory: reads 4 bytes");
  float* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned), 64), cudaSuccess);
  pinned[3] = 7;
  EXPECT_EQ(samples::read_at(out.get(), pinned, 3), cudaSuccess);
  EXPECT_EQ(out.values()[0], 7);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(EmulatorFaults, WrongDevice) {
  const DeviceVector<float> here(std::vector<float>(4, 1.0f));
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const DeviceVector<float> there(4);
  EXPECT_FAULT(samples::read_at(there.get(), here.get(), 0), cudaErrorIllegalAddress, "wrong device");
  EXPECT_EQ(cudaMemcpy(there.get(), here.get(), 16, cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_EQ(there.values()[3], 1);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

TEST_F(EmulatorFaults, RaceBetweenBlocks) {
  const DeviceVector<int> out(1);
  EXPECT_FAULT(samples::cross_block_race(out.get()), cudaErrorLaunchFailure,
               "block (1,0,0), thread (0,0,0)] race between blocks: writes 4 bytes");
}

// Two blocks may each read and write a half of one word.
TEST_F(EmulatorFaults, BlocksShareWordsButNotBytes) {
  const DeviceVector<unsigned short> x(std::vector<unsigned short>{1, 2, 3, 4, 5});
  EXPECT_EQ(samples::half_words(x.get(), 4, false), cudaSuccess);
  EXPECT_EQ(x.values(), (std::vector<unsigned short>{2, 3, 4, 5, 5}));
  EXPECT_FAULT(samples::half_words(x.get(), 4, true), cudaErrorLaunchFailure,
               "block (1,0,0), thread (0,0,0)] race between blocks: writes 2 bytes");
}

TEST_F(EmulatorFaults, MisalignedVectorAccess) {
  const DeviceVector<float> x(std::vector<float>(8, 1.0f)), y(8);
  EXPECT_FAULT(samples::misaligned_float4(y.get(), x.get()), cudaErrorMisalignedAddress, "not a multiple of 16");
}

TEST_F(EmulatorFaults, KernelThatStopsItself) {
  EXPECT_FAULT(samples::stop_itself(), cudaErrorLaunchFailure, "__trap()");
}

TEST_F(EmulatorFaults, LaunchConfiguration) {
  const DeviceVector<int> out(16);
  for (const auto& [grid, block] :
       {std::pair{dim3(0), dim3(1)}, std::pair{dim3(1), dim3(0)}, std::pair{dim3(1), dim3(1025)},
        std::pair{dim3(1, 65536), dim3(1)}, std::pair{dim3(1), dim3(64, 32)}, std::pair{dim3(1), dim3(1, 1, 65)}}) {
    EXPECT_EQ(samples::launch_shape(out.get(), grid, block), cudaErrorInvalidConfiguration);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  }
  EXPECT_EQ(take_error(), "");  // an error of a call, not a fault of the device
}

TEST_F(EmulatorFaults, FaultsStayUntilTaken) {
  const DeviceVector<float> out(std::vector<float>(4, 0.0f));
  EXPECT_EQ(samples::write_at(out.get(), 4), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(samples::write_at(out.get(), 1), cudaErrorIllegalAddress);
  EXPECT_NE(std::string(cudaGetErrorString(cudaErrorIllegalAddress)).find("write_at_kernel"), std::string::npos);
  EXPECT_NE(take_error(), "");
  EXPECT_EQ(take_error(), "");
  EXPECT_EQ(samples::write_at(out.get(), 1), cudaSuccess);
  EXPECT_EQ(out.values()[1], 1);
}

TEST_F(EmulatorFaults, HostDereferencesDeviceMemory) {
  const DeviceVector<float> x(std::vector<float>(4, 2.0f));
  const volatile float* pointer = x.get();
  EXPECT_DEATH(static_cast<void>(pointer[1]),
               "the host touched device memory: 1 bytes at .*offset 4 of the allocation");
  set_host_protection(false);
  EXPECT_EQ(pointer[1], 2);
  set_host_protection(true);
  EXPECT_DEATH(static_cast<void>(pointer[1]), "the host touched device memory");
}

TEST_F(EmulatorFaults, StackOverflow) {
  const DeviceVector<int> out(1);
  EXPECT_EQ(samples::deep_recursion(out.get(), 20), cudaSuccess);
  EXPECT_DEATH(samples::deep_recursion(out.get(), 1000), "stack overflow");
}

TEST_F(EmulatorFaults, UntakenFaultsFailTheProcess) {
  EXPECT_EXIT(
      {
        samples::stop_itself();
        std::exit(0);
      },
      ::testing::ExitedWithCode(1), "a fault was not looked at: .*stop_itself_kernel");
}

}  // namespace duet::emulation
