#include "duet/cuda/context.h"

#include <nccl.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>

#include "duet/core/op_scope.h"
#include "duet/cuda/check.h"

namespace duet {
namespace cuda {
namespace {

constexpr int most_devices = 64;
constexpr size_t workspace_bytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

// Nothing here is ever destroyed: tensors of static lifetime may outlive any other static object, and the driver frees
// everything when the process ends.
std::unique_ptr<Context> make_context(int index) {
  auto context = std::make_unique<Context>();
  context->index = index;
  OpScope::observer = [](const char* op) {
    if (op != nullptr)
      nvtxRangePushA(op);
    else
      nvtxRangePop();
  };
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, index), "cudaDeviceGetAttribute");
  context->multiprocessors = value;
  check_cuda(cudaStreamCreateWithFlags(&context->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  check_cublas(cublasLtCreate(&context->blas), "cublasLtCreate");
  context->workspace_bytes = workspace_bytes;
  check_cuda(cudaMalloc(&context->workspace, workspace_bytes), "cudaMalloc");
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&context->salt), sizeof(uint64_t)), "cudaMalloc");
  check_cuda(cudaMemsetAsync(context->salt, 0, sizeof(uint64_t), context->stream), "cudaMemsetAsync");
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&context->fault), sizeof(Fault)), "cudaMalloc");
  check_cuda(cudaMemsetAsync(context->fault, 0, sizeof(Fault), context->stream), "cudaMemsetAsync");
  check_cuda(cudaMallocHost(reinterpret_cast<void**>(&context->fault_host), sizeof(Fault)), "cudaMallocHost");
  return context;
}

[[noreturn]] void throw_fault(const Fault& fault) {
  switch (static_cast<Finding>(fault.finding)) {
    case Finding::id:
      fail("embedding", "id ", fault.value, " at position ", fault.position, " is outside the vocabulary of ",
           fault.limit);
    case Finding::label:
      fail("cross_entropy", "label ", fault.value, " of row ", fault.position, " is outside the ", fault.limit,
           " classes");
    case Finding::mask:
      fail("attention", "the mask of sample ", fault.position,
           " is not a run of ones followed by zeros, which cuDNN's padding needs");
    case Finding::none:
      break;
  }
  fail("cuda", "a kernel reported the unknown finding ", fault.finding);
}

}  // namespace

Context& context_of(CudaContext which) {
  static std::array<std::unique_ptr<Context>, most_devices> contexts;
  static std::array<std::once_flag, most_devices> made;
  thread_local int current = -1;
  if (current != which.index) {
    require(which);
    check_cuda(cudaSetDevice(which.index), "cudaSetDevice");
    current = which.index;
  }
  const auto i = static_cast<size_t>(which.index);
  std::call_once(made[i], [&] { contexts[i] = make_context(which.index); });
  return *contexts[i];
}

void add_watch(Context& context, Watch& watch) {
  const std::lock_guard lock(context.watches_mutex);
  context.watches.push_back(&watch);
}

void remove_watch(Context& context, Watch& watch) {
  const std::lock_guard lock(context.watches_mutex);
  std::erase(context.watches, &watch);
}

void wait_for_others(Context& context, cudaEvent_t event) {
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    {
      const std::lock_guard lock(context.watches_mutex);
      if (context.watches.empty()) return;
    }
    const cudaError_t status = event != nullptr ? cudaEventQuery(event) : cudaStreamQuery(context.stream);
    if (status == cudaSuccess) return;
    if (status != cudaErrorNotReady) check_cuda(status, "waiting for the device");
    cudaGetLastError();  // that it is not ready is no error of later calls
    {
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      const std::lock_guard lock(context.watches_mutex);
      for (Watch* watch : context.watches) watch->look(waited.count());
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

void finish(Context& context) {
  wait_for_others(context);
  check_cuda(cudaMemcpyAsync(context.fault_host, context.fault, sizeof(Fault), cudaMemcpyDeviceToHost, context.stream),
             "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(context.stream), "cudaStreamSynchronize");
  if (context.fault_host->finding == 0) return;
  const Fault fault = *context.fault_host;
  check_cuda(cudaMemsetAsync(context.fault, 0, sizeof(Fault), context.stream), "cudaMemsetAsync");
  throw_fault(fault);
}

}  // namespace cuda

int device_count(CudaContext, std::string& why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  cudaGetLastError();  // a missing driver is no error of later calls
  why = status == cudaErrorInsufficientDriver
            ? "no NVIDIA driver, or one too old for this build; install NVIDIA's driver"
            : text("the driver shows no GPU (", cudaGetErrorString(status), ")");
  return 0;
}

void require(CudaContext context) {
  std::string why;
  const int count = device_count(context, why);
  check(count > 0, "cuda", why, ", or use --device cpu");
  check(context.index >= 0 && context.index < std::min(count, cuda::most_devices), "cuda",
        "there is no device cuda:", context.index, ", only ", count, ": cuda:0 to cuda:", count - 1);
}

DeviceInformation describe(CudaContext context) {
  require(context);
  const cuda::UseDevice use(context.index);
  DeviceInformation information;
  cudaDeviceProp properties{};
  cuda::check_cuda(cudaGetDeviceProperties(&properties, context.index), "cudaGetDeviceProperties");
  information.name = properties.name;
  information.capability = text(properties.major, '.', properties.minor);
  information.multiprocessors = properties.multiProcessorCount;
  size_t free = 0, total = 0;
  cuda::check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  information.memory_bytes = static_cast<int64_t>(total);
  information.free_bytes = static_cast<int64_t>(free);
  int driver = 0, runtime = 0;
  cuda::check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  cuda::check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  information.versions = text("driver for CUDA ", driver / 1000, '.', driver % 1000 / 10, ", runtime ", runtime / 1000,
                              '.', runtime % 1000 / 10, ", cuBLASLt ", cublasLtGetVersion());
  int nccl = 0;  // 23007 is 2.30.7
  check(ncclGetVersion(&nccl) == ncclSuccess, "nccl", "ncclGetVersion failed");
  information.versions += text(", NCCL ", nccl / 10000, '.', nccl / 100 % 100, '.', nccl % 100);
  return information;
}

void synchronize(CudaContext context) {
  cuda::finish(cuda::context_of(context));
}

}  // namespace duet
