#include <memory>
#include <vector>

#include "duet/cuda/check.h"
#include "duet/cuda/context.h"

namespace duet {
namespace cuda {
namespace {

thread_local std::vector<std::shared_ptr<void>>* kept_by_recording = nullptr;

class Graph : public DeviceGraph {
 public:
  Graph(Context& context, std::shared_ptr<CachingAllocator> pool) : context_(context), pool_(std::move(pool)) {}
  ~Graph() override {
    try {
      wait_for_others(context_);
    } catch (const Error&) {  // the same comes with the communicator's next call
    }
    cudaStreamSynchronize(context_.stream);
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
  }

  void record(const std::function<void()>& work) {
    const UsePool use(context_.index, *pool_);
    // Relaxed: the pool may ask for memory while recording.
    check_cuda(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    cudaGraph_t graph = nullptr;
    kept_by_recording = &kept_;
    try {
      work();
      kept_by_recording = nullptr;
    } catch (...) {
      kept_by_recording = nullptr;
      cudaStreamEndCapture(context_.stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    check_cuda(cudaStreamEndCapture(context_.stream, &graph), "cudaStreamEndCapture");
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(status, "cudaGraphInstantiate");
  }

  void launch() override {
    const Timed timed(context_, "graph");
    check_cuda(cudaGraphLaunch(executable_, context_.stream), "cudaGraphLaunch");
  }

 private:
  Context& context_;
  std::shared_ptr<CachingAllocator> pool_;  // keeps the blocks that the graph uses
  std::vector<std::shared_ptr<void>> kept_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

void keep_with_recording(std::shared_ptr<void> what) {
  if (kept_by_recording != nullptr) kept_by_recording->push_back(std::move(what));
}

}  // namespace cuda

std::shared_ptr<CachingAllocator> make_graph_pool(CudaContext which) {
  // Closed and not deleted: tensors may still hold blocks of it.
  return {new CachingAllocator(cuda::device_memory(), which.index, false),
          [](CachingAllocator* pool) { pool->close(); }};
}

std::unique_ptr<DeviceGraph> DeviceGraph::record(CudaContext which, std::shared_ptr<CachingAllocator> pool,
                                                 const std::function<void()>& work) {
  // What steps outside of graphs have used is cached for the next of them; now the pool needs it more.
  cuda::wait_for_others(cuda::context_of(which));  // giving memory back waits for the device
  allocator(which).trim();
  auto graph = std::make_unique<cuda::Graph>(cuda::context_of(which), std::move(pool));
  graph->record(work);
  return graph;
}

void set_step_salt(CudaContext which, uint64_t salt) {
  write_words(which, cuda::context_of(which).salt, &salt, 1);
}

}  // namespace duet
