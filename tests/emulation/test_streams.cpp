// Streams, events and graphs: order is guaranteed only where the program asked for it.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "duet/tests/emulation/device_vector.h"
#include "duet/tests/emulation/sample_kernels.h"

namespace duet::emulation {

class EmulatorStreams : public ::testing::Test {
 protected:
  EmulatorStreams() {
    set_deferred(false);
    for (cudaStream_t* stream : {&first_, &second_}) {
      EXPECT_EQ(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), cudaSuccess);
    }
    for (cudaEvent_t* event : {&fork_, &join_}) {
      EXPECT_EQ(cudaEventCreateWithFlags(event, cudaEventDisableTiming), cudaSuccess);
    }
  }
  ~EmulatorStreams() override {
    EXPECT_EQ(take_error(), "");
    cudaGetLastError();
    for (cudaEvent_t event : {fork_, join_}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    for (cudaStream_t stream : {first_, second_}) EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  }
  cudaStream_t first_, second_;
  cudaEvent_t fork_, join_;
  static constexpr int kN = 1000;
  DeviceVector<float> x_{std::vector<float>(kN, 1.0f)}, y_{kN}, z_{kN};
};

TEST_F(EmulatorStreams, ReadOfWhatAnotherStreamWrites) {
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  EXPECT_FAULT(samples::scale(z_.get(), y_.get(), 2, kN, second_), cudaErrorLaunchFailure,
               "race between streams: reads 4 bytes");
}

TEST_F(EmulatorStreams, WriteOfWhatAnotherStreamReads) {
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  EXPECT_FAULT(cudaMemsetAsync(x_.get(), 0, 4, second_), cudaErrorLaunchFailure,
               "race between streams: writes 4 bytes");
}

TEST_F(EmulatorStreams, StreamsMayReadTheSame) {
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  EXPECT_EQ(samples::scale(z_.get(), x_.get(), 2, kN, second_), cudaSuccess);
}

TEST_F(EmulatorStreams, AnEventOrdersThem) {
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
  EXPECT_EQ(samples::scale(z_.get(), y_.get(), 2, kN, second_), cudaSuccess);
  // But what the first stream does after the record is free to run at any time.
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 3, 1, first_), cudaErrorLaunchFailure);
  EXPECT_NE(take_error().find("race between streams: writes 4 bytes"), std::string::npos);
}

TEST_F(EmulatorStreams, AnEventRecordedTooEarlyDoesNot) {
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
  EXPECT_FAULT(samples::scale(z_.get(), y_.get(), 2, kN, second_), cudaErrorLaunchFailure, "race between streams");
}

TEST_F(EmulatorStreams, TheHostOrdersThem) {
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(samples::scale(z_.get(), y_.get(), 2, kN, second_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(join_, second_), cudaSuccess);
  ASSERT_EQ(cudaEventSynchronize(join_), cudaSuccess);
  EXPECT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
}

TEST_F(EmulatorStreams, TheLegacyStreamWaitsForBlockingStreamsOnly) {
  cudaStream_t blocking;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, blocking), cudaSuccess);
  EXPECT_EQ(samples::scale(z_.get(), y_.get(), 2, kN, nullptr), cudaSuccess);
  EXPECT_EQ(samples::scale(y_.get(), z_.get(), 2, kN, blocking), cudaSuccess);
  ASSERT_EQ(samples::scale(z_.get(), x_.get(), 2, kN, nullptr), cudaSuccess);
  EXPECT_FAULT(samples::scale(y_.get(), z_.get(), 2, kN, first_), cudaErrorLaunchFailure, "race between streams");
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(EmulatorStreams, EventsKeepTime) {
  cudaEvent_t start, end;
  ASSERT_EQ(cudaEventCreate(&start), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
  cudaGetLastError();
  ASSERT_EQ(cudaEventRecord(start, first_), cudaSuccess);
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, first_), cudaSuccess);
  ASSERT_EQ(cudaEventQuery(end), cudaSuccess);
  ASSERT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
  EXPECT_GT(milliseconds, 0);
  EXPECT_LT(milliseconds, 1000);
  EXPECT_EQ(cudaEventDestroy(start), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(end), cudaSuccess);
}

TEST_F(EmulatorStreams, StreamsBelongToTheirDevice) {
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

TEST_F(EmulatorStreams, CopiesOfRows) {
  const DeviceVector<float> rows(std::vector<float>{1, 2, 3, 4, 5, 6});
  std::vector<float> host(4, 0.0f);
  ASSERT_EQ(cudaMemcpy2DAsync(host.data(), 8, rows.get(), 12, 8, 2, cudaMemcpyDeviceToHost, first_), cudaSuccess);
  EXPECT_EQ(host, (std::vector<float>{1, 2, 4, 5}));
  EXPECT_EQ(cudaMemcpyAsync(host.data(), rows.get(), 8, cudaMemcpyHostToDevice, first_), cudaErrorInvalidValue);
}

TEST_F(EmulatorStreams, HostFunctionsRunInOrder) {
  int value = 1;
  ASSERT_EQ(cudaLaunchHostFunc(
                first_, [](void* data) { *static_cast<int*>(data) += 4; }, &value),
            cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(value, 5);
}

class DeferredStreams : public EmulatorStreams {
 protected:
  DeferredStreams() {
    set_deferred(true);
    EXPECT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned_), kN * sizeof(float)), cudaSuccess);
  }
  ~DeferredStreams() override {
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
    set_deferred(false);
  }
  float* pinned_ = nullptr;
};

TEST_F(DeferredStreams, WorkRunsWhenSomethingWaits) {
  pinned_[3] = 7;
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(pinned_, y_.get(), kN * 4, cudaMemcpyDeviceToHost, first_), cudaSuccess);
  EXPECT_NE(pinned_[3], 7);  // neither the old value nor the new one
  EXPECT_NE(pinned_[3], 2);
  EXPECT_EQ(cudaStreamQuery(first_), cudaErrorNotReady);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(pinned_[3], 2);
  EXPECT_EQ(cudaStreamQuery(first_), cudaSuccess);
}

TEST_F(DeferredStreams, PinnedSourcesAreReadLate) {
  std::vector<float> pageable(kN, 5.0f);
  std::fill_n(pinned_, kN, 5.0f);
  ASSERT_EQ(cudaMemcpyAsync(y_.get(), pinned_, kN * 4, cudaMemcpyHostToDevice, first_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(z_.get(), pageable.data(), kN * 4, cudaMemcpyHostToDevice, first_), cudaSuccess);
  pinned_[0] = pageable[0] = 6;  // too early for the pinned one
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(y_.values()[0], 6);
  EXPECT_EQ(z_.values()[0], 5);
}

TEST_F(DeferredStreams, EventsPullTheirStream) {
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  ASSERT_EQ(samples::scale(x_.get(), y_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(pinned_, y_.get(), kN * 4, cudaMemcpyDeviceToHost, second_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(second_), cudaSuccess);
  EXPECT_EQ(pinned_[9], 2);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(x_.values()[9], 4);
}

TEST_F(DeferredStreams, FaultsAppearAtTheWait) {
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  EXPECT_EQ(samples::scale(z_.get(), y_.get(), 2, kN, second_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_FAULT(cudaStreamSynchronize(second_), cudaErrorLaunchFailure, "race between streams");
}

class EmulatorGraphs : public EmulatorStreams {
 protected:
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    ASSERT_EQ(cudaStreamBeginCapture(first_, mode), cudaSuccess);
  }
  cudaGraphExec_t end() {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(first_, &graph), cudaSuccess);
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return exec;
  }
};

TEST_F(EmulatorGraphs, ReplaysWhatWasCaptured) {
  begin();
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(samples::scale(x_.get(), y_.get(), 3, kN, first_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(z_.get(), x_.get(), kN * 4, cudaMemcpyDeviceToDevice, first_), cudaSuccess);
  const cudaGraphExec_t exec = end();
  EXPECT_EQ(x_.values()[5], 1);  // captured, not run
  for (int i = 0; i < 3; i++) ASSERT_EQ(cudaGraphLaunch(exec, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(z_.values()[kN - 1], 216);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}

TEST_F(EmulatorGraphs, KeepsBranches) {
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(samples::scale(z_.get(), x_.get(), 3, kN, second_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(join_, second_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(first_, join_), cudaSuccess);
  ASSERT_EQ(samples::scale(x_.get(), z_.get(), 1, kN, first_), cudaSuccess);
  const cudaGraphExec_t exec = end();
  for (int i = 0; i < 2; i++) ASSERT_EQ(cudaGraphLaunch(exec, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(x_.values()[0], 9);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}

TEST_F(EmulatorGraphs, FindsRacesBetweenBranches) {
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  ASSERT_EQ(samples::scale(z_.get(), y_.get(), 3, kN, second_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(join_, second_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(first_, join_), cudaSuccess);
  const cudaGraphExec_t exec = end();
  EXPECT_FAULT(cudaGraphLaunch(exec, first_), cudaErrorLaunchFailure, "race between streams: reads");
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}

TEST_F(EmulatorGraphs, UnjoinedBranch) {
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
  ASSERT_EQ(samples::scale(z_.get(), x_.get(), 3, kN, second_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(first_, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  EXPECT_EQ(samples::scale(z_.get(), x_.get(), 3, kN, second_), cudaSuccess);  // capturing no longer
  EXPECT_EQ(cudaStreamSynchronize(second_), cudaSuccess);
  EXPECT_EQ(z_.values()[0], 3);
}

TEST_F(EmulatorGraphs, SynchronisationDuringCapture) {
  begin(cudaStreamCaptureModeRelaxed);
  cudaStreamCaptureStatus status;
  ASSERT_EQ(cudaStreamIsCapturing(first_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  EXPECT_EQ(cudaStreamSynchronize(second_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(first_), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(first_, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
}

TEST_F(EmulatorGraphs, AllocationAndCopiesDuringCapture) {
  std::vector<float> host(kN);
  void* pointer = nullptr;
  begin(cudaStreamCaptureModeGlobal);
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaMemcpy(host.data(), x_.get(), 4, cudaMemcpyDeviceToHost), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaGraphExecDestroy(end()), cudaSuccess);
  begin(cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaSuccess);
  EXPECT_EQ(cudaFree(pointer), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(first_, &graph), cudaErrorStreamCaptureInvalidated);
}

TEST_F(EmulatorGraphs, Update) {
  begin();
  ASSERT_EQ(samples::scale(y_.get(), x_.get(), 2, kN, first_), cudaSuccess);
  const cudaGraphExec_t exec = end();
  const auto capture = [&](int launches, float factor) {
    begin();
    for (int i = 0; i < launches; i++) EXPECT_EQ(samples::scale(y_.get(), x_.get(), factor, kN, first_), cudaSuccess);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(first_, &graph), cudaSuccess);
    return graph;
  };
  const cudaGraph_t other = capture(1, 5), longer = capture(2, 5);
  size_t nodes = 0;
  ASSERT_EQ(cudaGraphGetNodes(longer, nullptr, &nodes), cudaSuccess);
  EXPECT_EQ(nodes, 2u);
  cudaGraphExecUpdateResultInfo info;
  EXPECT_EQ(cudaGraphExecUpdate(exec, longer, &info), cudaErrorGraphExecUpdateFailure);
  EXPECT_EQ(info.result, cudaGraphExecUpdateErrorTopologyChanged);
  ASSERT_EQ(cudaGraphExecUpdate(exec, other, &info), cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(exec, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(y_.values()[1], 5);
  for (cudaGraph_t graph : {other, longer}) EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}

}  // namespace duet::emulation
