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
  context.profile_begin = cuda::record(context);
  cuda::check_cuda(cudaEventSynchronize(context.profile_begin), "cudaEventSynchronize");
  context.profiling = true;
}

std::vector<KernelSpan> stop_profile(CudaContext which) {
  cuda::Context& context = cuda::context_of(which);
  cuda::finish(context);
  context.profiling = false;
  std::vector<KernelSpan> spans;
  const auto seconds = [&](cudaEvent_t event) {
    float milliseconds = 0;
    cuda::check_cuda(cudaEventElapsedTime(&milliseconds, context.profile_begin, event), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  };
  for (const cuda::Context::Sample& sample : context.samples) {
    const double begin = seconds(sample.begin);
    float milliseconds = 0;  // of its own: in floats, what has passed since the profile began is coarser
    cuda::check_cuda(cudaEventElapsedTime(&milliseconds, sample.begin, sample.end), "cudaEventElapsedTime");
    spans.push_back({sample.op, sample.kernel, begin, begin + 1e-3 * static_cast<double>(milliseconds)});
    cudaEventDestroy(sample.begin);
    cudaEventDestroy(sample.end);
  }
  context.samples.clear();
  if (context.profile_begin != nullptr) cudaEventDestroy(context.profile_begin);
  context.profile_begin = nullptr;
  return spans;
}

}  // namespace duet
