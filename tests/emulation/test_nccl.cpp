// Collectives of emulated devices: what they compute, and what they find wrong that the real library would not.
#include <gtest/gtest.h>
#include <nccl.h>

#include <chrono>
#include <memory>
#include <thread>

#include "duet/core/dtype.h"
#include "duet/tests/emulation/device_vector.h"
#include "duet/tests/emulation/runtime.h"
#include "duet/tests/emulation/sample_kernels.h"

namespace duet::emulation {
namespace {

using Floats = DeviceVector<float>;

// Two ranks, both driven by the test's one thread.
class EmulatorNccl : public ::testing::Test {
 protected:
  EmulatorNccl() {
    set_deferred(false);
    ncclUniqueId id;
    EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    for (int rank = 0; rank < 2; rank++) {
      EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
      EXPECT_EQ(cudaStreamCreateWithFlags(&streams_[rank], cudaStreamNonBlocking), cudaSuccess);
      EXPECT_EQ(ncclCommInitRank(&comms_[rank], 2, id, rank), ncclSuccess);
    }
    EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
    for (int rank = 0; rank < 2; rank++) {
      EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
      x_[rank] = std::make_unique<Floats>(std::vector<float>{1.0f + static_cast<float>(rank), 2, 3, 4});
      y_[rank] = std::make_unique<Floats>(16);
    }
  }
  ~EmulatorNccl() override {
    set_rank_timeout(1);
    EXPECT_EQ(take_error(), "");
    set_deferred(false);
    for (int rank = 0; rank < 2; rank++) {
      EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
      if (comms_[rank] != nullptr) {
        EXPECT_EQ(ncclCommDestroy(comms_[rank]), ncclSuccess);
      }
      EXPECT_EQ(cudaStreamDestroy(streams_[rank]), cudaSuccess);
      x_[rank] = nullptr;
      y_[rank] = nullptr;
    }
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
    set_rank_timeout(60);
    cudaGetLastError();
  }

  struct Options {
    size_t count = 4;
    ncclDataType_t type = ncclFloat32;
    ncclRedOp_t op = ncclSum;
  };
  ncclResult_t all_reduce(int rank, Options options, void* to = nullptr) {
    EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
    return ncclAllReduce(x(rank), to ? to : y(rank), options.count, options.type, options.op, comms_[rank],
                         streams_[rank]);
  }
  ncclResult_t all_reduce(int rank) { return all_reduce(rank, Options{}); }
  ncclResult_t broadcast(int rank, int root) {
    EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
    return ncclBroadcast(x(rank), y(rank), 4, ncclFloat32, root, comms_[rank], streams_[rank]);
  }
  ncclResult_t all_gather(int rank) {
    EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
    return ncclAllGather(x(rank), y(rank), 4, ncclFloat32, comms_[rank], streams_[rank]);
  }
  void synchronize() {
    for (int rank = 0; rank < 2; rank++) EXPECT_EQ(cudaStreamSynchronize(streams_[rank]), cudaSuccess);
  }
  void expect_result(const std::vector<float>& want) {
    synchronize();
    for (int rank = 0; rank < 2; rank++) {
      std::vector<float> got(want.size());
      EXPECT_EQ(cudaMemcpy(got.data(), y(rank), got.size() * 4, cudaMemcpyDeviceToHost), cudaSuccess);
      EXPECT_EQ(got, want) << "rank " << rank;
    }
  }
  // The second rank's call shows that it differs from the first's.
  template <class First, class Second>
  void expect_difference(const First& first, const Second& second, const char* part) {
    EXPECT_EQ(first(), ncclSuccess);
    second();
    const std::string message = take_error();
    EXPECT_NE(message.find("collectives differs: rank 0 asks for"), std::string::npos) << message;
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  float* x(int rank) const { return x_[rank]->get(); }
  float* y(int rank) const { return y_[rank]->get(); }

  ncclComm_t comms_[2] = {};
  cudaStream_t streams_[2] = {};
  std::unique_ptr<Floats> x_[2], y_[2];
};

TEST_F(EmulatorNccl, Reduces) {
  for (const auto& [op, first, second] :
       {std::tuple(ncclSum, 3.0f, 4.0f), {ncclProd, 2.0f, 4.0f}, {ncclMax, 2.0f, 2.0f}, {ncclMin, 1.0f, 2.0f}}) {
    for (int rank = 0; rank < 2; rank++) EXPECT_EQ(all_reduce(rank, {.count = 2, .op = op}), ncclSuccess);
    expect_result({first, second});
  }
}

// Each rank's addition is rounded, as in a ring: 256 + 1 is 256 in bfloat16.
TEST_F(EmulatorNccl, RoundsInTheTensorsType) {
  for (int rank = 0; rank < 2; rank++) {
    ASSERT_EQ(cudaSetDevice(rank), cudaSuccess);
    const bf16 value(rank == 0 ? 256.0f : 1.0f);
    ASSERT_EQ(cudaMemcpy(x(rank), &value, 2, cudaMemcpyHostToDevice), cudaSuccess);
    EXPECT_EQ(all_reduce(rank, {.count = 1, .type = ncclBfloat16}), ncclSuccess);
  }
  synchronize();
  bf16 result;
  ASSERT_EQ(cudaMemcpy(&result, y(1), 2, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(static_cast<float>(result), 256);
}

TEST_F(EmulatorNccl, Broadcasts) {
  for (int root = 0; root < 2; root++) {
    for (int rank = 0; rank < 2; rank++) EXPECT_EQ(broadcast(rank, root), ncclSuccess);
    expect_result({1.0f + static_cast<float>(root), 2, 3, 4});
  }
}

TEST_F(EmulatorNccl, Gathers) {
  for (int rank = 0; rank < 2; rank++) EXPECT_EQ(all_gather(rank), ncclSuccess);
  expect_result({1, 2, 3, 4, 2, 2, 3, 4});
}

TEST_F(EmulatorNccl, WorksLate) {
  set_deferred(true);
  for (int rank = 0; rank < 2; rank++) EXPECT_EQ(all_reduce(rank), ncclSuccess);
  // Waiting for one rank makes the other do its part.
  EXPECT_EQ(cudaStreamSynchronize(streams_[1]), cudaSuccess);
  expect_result({3, 4, 6, 8});
}

TEST_F(EmulatorNccl, StreamsWaitForTheOtherRanks) {
  ASSERT_EQ(all_reduce(0), ncclSuccess);
  // Work behind it waits as well, on its stream and on one that waits for that.
  cudaStream_t other;
  cudaEvent_t event;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  ASSERT_EQ(samples::scale(y(0), y(0), 10, 4, streams_[0]), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, streams_[0]), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other, event), cudaSuccess);
  ASSERT_EQ(samples::scale(x(0), y(0), 10, 4, other), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(streams_[0]), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(other), cudaErrorNotReady);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(all_reduce(1), ncclSuccess);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  EXPECT_EQ(x_[0]->values(), std::vector<float>({300, 400, 600, 800}));
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

// A thread that waits for the other ranks leaves the runtime to theirs.
TEST_F(EmulatorNccl, AWaitingThreadDoesNotStopTheOthers) {
  ASSERT_EQ(all_reduce(0), ncclSuccess);
  std::thread waiting([&] {
    const auto outer = lock_runtime();  // as in a call that makes others
    EXPECT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(all_reduce(1), ncclSuccess);
  waiting.join();
  expect_result({3, 4, 6, 8});
}

TEST_F(EmulatorNccl, ARankThatNeverComesIsAFault) {
  set_rank_timeout(0.1);
  ASSERT_EQ(all_reduce(0), ncclSuccess);
  EXPECT_FAULT(cudaStreamSynchronize(streams_[0]), cudaErrorLaunchTimeout,
               "after 0.1 s the device still waits for rank 1 of 2 to come to ncclAllReduce");
}

TEST_F(EmulatorNccl, DifferentCounts) {
  expect_difference([&] { return all_reduce(0); }, [&] { all_reduce(1, {.count = 3}); }, "of 3 elements");
}
TEST_F(EmulatorNccl, DifferentTypes) {
  expect_difference([&] { return all_reduce(0); }, [&] { all_reduce(1, {.type = ncclInt32}); }, "type 2");
}
TEST_F(EmulatorNccl, DifferentOperations) {
  expect_difference([&] { return all_reduce(0); }, [&] { all_reduce(1, {.op = ncclMax}); }, "operation 2");
}
TEST_F(EmulatorNccl, DifferentCalls) {
  expect_difference([&] { return all_reduce(0); }, [&] { broadcast(1, 0); }, "ncclBroadcast");
}
TEST_F(EmulatorNccl, DifferentRoots) {
  expect_difference([&] { return broadcast(0, 0); }, [&] { broadcast(1, 1); }, "root 1");
}
TEST_F(EmulatorNccl, DifferentGroups) {
  expect_difference([&] { return all_reduce(0); },
                    [&] {
                      ncclGroupStart();
                      all_reduce(1);
                      all_reduce(1, {}, y(1) + 8);
                      ncclGroupEnd();
                    },
                    "call 1 of 2 in its group");
}

TEST_F(EmulatorNccl, AnotherDeviceIsCurrent) {
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(ncclAllReduce(x(1), y(1), 4, ncclFloat32, ncclSum, comms_[1], streams_[1]), ncclInvalidUsage);
  EXPECT_NE(std::string(ncclGetLastError(comms_[1])).find("and device 0 is current"), std::string::npos);
}
TEST_F(EmulatorNccl, AStreamOfAnotherDevice) {
  EXPECT_EQ(ncclAllReduce(x(1), y(1), 4, ncclFloat32, ncclSum, comms_[1], streams_[0]), ncclInvalidUsage);
}

TEST_F(EmulatorNccl, PointersThatCannotBe) {
  std::vector<float> host(4);
  EXPECT_EQ(all_reduce(0, {}, host.data()), ncclInvalidArgument);
  EXPECT_EQ(all_reduce(0, {}, reinterpret_cast<char*>(y(0)) + 2), ncclInvalidArgument);
  EXPECT_EQ(all_reduce(0, {.count = 2}, x(0) + 1), ncclInvalidArgument);  // overlaps
  EXPECT_EQ(ncclAllReduce(nullptr, y(0), 4, ncclFloat32, ncclSum, comms_[0], streams_[0]), ncclInvalidArgument);
  EXPECT_EQ(ncclAllReduce(x(0), y(0), 4, ncclFloat32, ncclSum, nullptr, streams_[0]), ncclInvalidArgument);
  EXPECT_EQ(ncclBroadcast(x(0), y(0), 4, ncclFloat32, 2, comms_[0], streams_[0]), ncclInvalidArgument);
}

TEST_F(EmulatorNccl, ReadsBehindTheEnd) {
  for (int rank = 0; rank < 2; rank++) all_reduce(rank, {.count = 5});
  EXPECT_FAULT(cudaStreamSynchronize(streams_[0]), cudaErrorIllegalAddress, "out of bounds: reads 20 bytes");
}
TEST_F(EmulatorNccl, WritesBehindTheEnd) {
  all_reduce(0);
  all_reduce(1, {}, y(1) + 14);
  EXPECT_FAULT(cudaStreamSynchronize(streams_[0]), cudaErrorIllegalAddress, "writes");
}
TEST_F(EmulatorNccl, MemoryOfAnotherDevice) {
  all_reduce(0);
  all_reduce(1, {}, y(0));
  EXPECT_FAULT(cudaStreamSynchronize(streams_[1]), cudaErrorIllegalAddress, "on device 0");
}
TEST_F(EmulatorNccl, FreedMemory) {
  float* freed = y(1);
  y_[1] = nullptr;
  all_reduce(0);
  all_reduce(1, {}, freed);
  EXPECT_FAULT(cudaStreamSynchronize(streams_[1]), cudaErrorIllegalAddress, "use after free");
}

TEST_F(EmulatorNccl, ReadsWhatNobodyWrote) {
  const Floats fresh(4);
  for (int rank = 0; rank < 2; rank++) {
    ASSERT_EQ(cudaSetDevice(rank), cudaSuccess);
    ncclAllReduce(rank == 1 ? fresh.get() : x(0), y(rank), 4, ncclFloat32, ncclSum, comms_[rank], streams_[rank]);
  }
  EXPECT_FAULT(cudaStreamSynchronize(streams_[0]), cudaErrorIllegalAddress, "never written");
}
// Only the root's source counts.
TEST_F(EmulatorNccl, ABroadcastReadsTheRootOnly) {
  for (int rank = 0; rank < 2; rank++) {
    ASSERT_EQ(cudaSetDevice(rank), cudaSuccess);
    EXPECT_EQ(ncclBroadcast(rank == 0 ? x(0) : y(1), y(rank), 4, ncclFloat32, 0, comms_[rank], streams_[rank]),
              ncclSuccess);
  }
  expect_result({1, 2, 3, 4});
}

TEST_F(EmulatorNccl, RacesWithOtherStreams) {
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  cudaStream_t other;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(samples::scale(x(1), x(1), 2, 4, other), cudaSuccess);
  for (int rank = 0; rank < 2; rank++) all_reduce(rank);
  EXPECT_FAULT(cudaStreamSynchronize(streams_[0]), cudaErrorLaunchFailure, "race between streams: reads");
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  for (int rank = 0; rank < 2; rank++) all_reduce(rank);
  EXPECT_FAULT(samples::scale(x(1), y(1), 2, 4, other), cudaErrorLaunchFailure, "race between streams");
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

TEST_F(EmulatorNccl, GraphsRepeatCollectives) {
  cudaGraphExec_t executables[2];
  for (int rank = 0; rank < 2; rank++) {
    ASSERT_EQ(cudaSetDevice(rank), cudaSuccess);
    cudaGraph_t graph;
    ASSERT_EQ(cudaStreamBeginCapture(streams_[rank], cudaStreamCaptureModeRelaxed), cudaSuccess);
    EXPECT_EQ(all_reduce(rank), ncclSuccess);
    EXPECT_EQ(samples::scale(x(rank), y(rank), 1, 4, streams_[rank]), cudaSuccess);
    ASSERT_EQ(cudaStreamEndCapture(streams_[rank], &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executables[rank], graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
  for (const float want : {3.0f, 6.0f, 12.0f}) {
    for (int rank = 0; rank < 2; rank++) {
      ASSERT_EQ(cudaSetDevice(rank), cudaSuccess);
      EXPECT_EQ(cudaGraphLaunch(executables[rank], streams_[rank]), cudaSuccess);
    }
    expect_result({want});
  }
  EXPECT_EQ(ncclCommDestroy(comms_[1]), ncclSuccess);
  EXPECT_NE(take_error().find("destroyed before a graph with its calls"), std::string::npos);
  comms_[1] = nullptr;
  EXPECT_FAULT(cudaGraphLaunch(executables[1], streams_[1]), cudaErrorLaunchFailure, "communicator is gone");
  for (cudaGraphExec_t executable : executables) EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST_F(EmulatorNccl, GroupsSendNothingAfterAnError) {
  ASSERT_EQ(ncclGroupStart(), ncclSuccess);
  EXPECT_EQ(all_reduce(0), ncclSuccess);
  EXPECT_EQ(broadcast(0, 7), ncclInvalidArgument);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
  EXPECT_EQ(cudaStreamQuery(streams_[0]), cudaSuccess);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
}

TEST_F(EmulatorNccl, AnAbortIsAnErrorElsewhere) {
  ASSERT_EQ(all_reduce(0), ncclSuccess);
  ncclResult_t state;
  EXPECT_EQ(ncclCommGetAsyncError(comms_[0], &state), ncclSuccess);
  EXPECT_EQ(state, ncclSuccess);
  EXPECT_EQ(ncclCommAbort(comms_[1]), ncclSuccess);
  EXPECT_EQ(ncclCommGetAsyncError(comms_[0], &state), ncclSuccess);
  EXPECT_EQ(state, ncclRemoteError);
  EXPECT_EQ(cudaStreamQuery(streams_[0]), cudaErrorNotReady);
  EXPECT_EQ(ncclCommAbort(comms_[0]), ncclSuccess);
  EXPECT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  comms_[0] = comms_[1] = nullptr;
}

TEST_F(EmulatorNccl, FinalizingWaitsForWhatWasAsked) {
  ASSERT_EQ(all_reduce(0), ncclSuccess);
  set_rank_timeout(0.1);
  EXPECT_EQ(ncclCommFinalize(comms_[0]), ncclSystemError);
  EXPECT_EQ(all_reduce(0), ncclInvalidUsage);
  EXPECT_EQ(all_reduce(1), ncclSuccess);
  expect_result({3, 4, 6, 8});
  EXPECT_EQ(all_reduce(0), ncclInvalidUsage);
}

class EmulatorNcclJoin : public ::testing::Test {
 protected:
  EmulatorNcclJoin() { EXPECT_EQ(ncclGetUniqueId(&id_), ncclSuccess); }
  ~EmulatorNcclJoin() override {
    set_rank_timeout(60);
    for (ncclComm_t comm : made_) EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  }
  ncclResult_t join(int device, int size, int rank) {
    EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm = nullptr;
    const ncclResult_t result = ncclCommInitRankConfig(&comm, size, id_, rank, &config);
    if (comm != nullptr) made_.push_back(comm);
    return result;
  }
  ncclResult_t state(size_t i) {
    ncclResult_t state = ncclInternalError;
    EXPECT_EQ(ncclCommGetAsyncError(made_[i], &state), ncclSuccess);
    return state;
  }
  ncclUniqueId id_;
  std::vector<ncclComm_t> made_;
};

TEST_F(EmulatorNcclJoin, IsInProgressUntilAllHaveCome) {
  EXPECT_EQ(join(0, 2, 0), ncclInProgress);
  EXPECT_EQ(state(0), ncclInProgress);
  const Floats x(std::vector<float>{1});
  EXPECT_EQ(ncclAllReduce(x.get(), x.get(), 1, ncclFloat32, ncclSum, made_[0], nullptr), ncclInvalidUsage);
  EXPECT_EQ(join(1, 2, 1), ncclInProgress);
  EXPECT_EQ(state(0), ncclSuccess);
  EXPECT_EQ(state(1), ncclSuccess);
}

// What a call that does not block puts on the stream may get there only when it is no longer in progress.
TEST_F(EmulatorNcclJoin, CallsAreInProgressUntilAsked) {
  EXPECT_EQ(join(0, 1, 0), ncclInProgress);
  EXPECT_EQ(state(0), ncclSuccess);
  const Floats x(std::vector<float>{1}), y(1);
  EXPECT_EQ(ncclAllReduce(x.get(), y.get(), 1, ncclFloat32, ncclSum, made_[0], nullptr), ncclInProgress);
  EXPECT_EQ(ncclAllReduce(x.get(), y.get(), 1, ncclFloat32, ncclSum, made_[0], nullptr), ncclInvalidUsage);
  EXPECT_EQ(cudaMemset(x.get(), 0, 4), cudaSuccess);  // overtakes it
  EXPECT_EQ(state(0), ncclSuccess);
  EXPECT_EQ(y.values(), std::vector<float>{0});
}

TEST_F(EmulatorNcclJoin, ARankThatNeverComes) {
  set_rank_timeout(0.1);
  ncclComm_t comm;
  EXPECT_EQ(ncclCommInitRank(&comm, 2, id_, 0), ncclSystemError);
  EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
}

TEST_F(EmulatorNcclJoin, TwoRanksOnOneDevice) {
  EXPECT_EQ(join(0, 2, 0), ncclInProgress);
  EXPECT_EQ(join(0, 2, 1), ncclInvalidUsage);
  EXPECT_EQ(state(0), ncclInvalidUsage);
}
TEST_F(EmulatorNcclJoin, RanksThatDoNotFit) {
  EXPECT_EQ(join(0, 3, 3), ncclInvalidArgument);
  EXPECT_EQ(join(0, 3, -1), ncclInvalidArgument);
  EXPECT_EQ(join(0, 3, 0), ncclInProgress);
  EXPECT_EQ(join(1, 3, 0), ncclInvalidUsage);     // has come
  EXPECT_EQ(join(1, 2, 1), ncclInvalidArgument);  // of how many
}
TEST_F(EmulatorNcclJoin, IdsAreUsedOnceAndWhole) {
  EXPECT_EQ(join(0, 1, 0), ncclInProgress);
  EXPECT_EQ(join(1, 1, 0), ncclInvalidArgument);
  EXPECT_EQ(ncclGetUniqueId(&id_), ncclSuccess);
  id_.internal[127] ^= 1;
  EXPECT_EQ(join(1, 1, 0), ncclInvalidArgument);
}

}  // namespace
}  // namespace duet::emulation
