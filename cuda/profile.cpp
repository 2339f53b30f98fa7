#include <map>

#include "duet/core/op_scope.h"
#include "duet/cuda/check.h"
#include "duet/cuda/context.h"

namespace duet {
namespace cuda {
namespace {

cudaEvent_t record(Context& context) {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  check_cuda(cudaEventRecord(event, context.stream), "cudaEventRecord");
  return event;
}

}  // namespace

Timed::Timed(Context& context, const char* kernel) : context_(context), active_(context.profiling) {
  if (active_) context.samples.push_back({OpScope::current(), kernel, record(context), nullptr});
}

Timed::~Timed() {
  // A failure shows when the event is read.
  if (active_ && cudaEventCreate(&context_.samples.back().end) == cudaSuccess)
    cudaEventRecord(context_.samples.back().end, context_.stream);
}

}  // namespace cuda

void start_profile(CudaContext which) {
  cuda::Context& context = cuda::context_of(which);
  stop_profile(which);
  context.profiling = true;
}

std::vector<KernelTime> stop_profile(CudaContext which) {
  cuda::Context& context = cuda::context_of(which);
  cuda::finish(context);
  context.profiling = false;
  std::map<std::pair<std::string, std::string>, KernelTime> times;
  for (const cuda::Context::Sample& sample : context.samples) {
    float milliseconds = 0;
    cuda::check_cuda(cudaEventElapsedTime(&milliseconds, sample.begin, sample.end), "cudaEventElapsedTime");
    KernelTime& time = times[{sample.op, sample.kernel}];
    time = {sample.op, sample.kernel, time.calls + 1, time.seconds + 1e-3 * static_cast<double>(milliseconds)};
    cudaEventDestroy(sample.begin);
    cudaEventDestroy(sample.end);
  }
  context.samples.clear();
  std::vector<KernelTime> result;
  for (auto& [key, time] : times) result.push_back(std::move(time));
  return result;
}

}  // namespace duet
