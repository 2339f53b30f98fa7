#include <nccl.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "duet/core/op_scope.h"
#include "duet/cuda/check.h"
#include "duet/cuda/context.h"
#include "duet/cuda/launch.h"
#include "duet/train/communicator.h"
#include "duet/train/progress.h"

namespace duet {
namespace cuda {
namespace {

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return ncclFloat64;
    case DType::f32:
      return ncclFloat32;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i64:
      return ncclInt64;
    case DType::i32:
      return ncclInt32;
    case DType::u8:
      return ncclUint8;
  }
  fail("nccl", "no type for ", dtype);
}

size_t count_of(const Tensor& tensor) {
  return static_cast<size_t>(tensor.numel());
}

// NCCL's communicator. Graphs that recorded its calls hold it too: NCCL ends one only after the last of them.
struct Handle {
  const int device;
  const double patience;  // seconds
  ncclComm_t comm = nullptr;

  Handle(int index, double seconds) : device(index), patience(seconds) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (comm == nullptr) return;
    const UseDevice use(device);
    if (finalized())
      ncclCommDestroy(comm);
    else
      ncclCommAbort(comm);
  }

  // Whether all that was asked for is over.
  bool finalized() {
    const train::Stopwatch waiting;
    ncclResult_t state = ncclCommFinalize(comm);
    while (state == ncclInProgress && waiting.seconds() <= patience) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) return false;
    }
    return state == ncclSuccess;
  }

  // Ends kernels that wait for other ranks. While there are graphs it returns only after them, which must not be waited
  // for here.
  static void abort(const std::shared_ptr<Handle>& handle) {
    const ncclComm_t comm = std::exchange(handle->comm, nullptr);
    if (comm == nullptr) return;
    const auto end = [comm, device = handle->device] {
      const UseDevice use(device);
      ncclCommAbort(comm);
    };
    if (handle.use_count() > 1)
      std::thread(end).detach();
    else
      end();
  }
};

// Calls that do not block: a rank that is gone would keep a blocking one from ever returning.
class NcclCommunicator : public train::Communicator, private Watch {
 public:
  NcclCommunicator(CudaContext which, const train::CommunicatorId& id, int rank, int size, double patience)
      : Communicator({DeviceKind::cuda, which.index}, rank, size),
        context_(context_of(which)),
        handle_(std::make_shared<Handle>(which.index, patience)) {
    ncclUniqueId unique;
    static_assert(sizeof(unique.internal) == sizeof(id.bytes));
    std::memcpy(unique.internal, id.bytes.data(), id.bytes.size());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check_call(ncclCommInitRankConfig(&handle_->comm, size, unique, rank, &config), "ncclCommInitRankConfig");
    settle("ncclCommInitRankConfig");
    add_watch(context_, *this);
  }

  ~NcclCommunicator() override {
    remove_watch(context_, *this);
    // A rank that fails does not wait for the others, who notice that it has gone.
    if (std::uncaught_exceptions() > exceptions_) Handle::abort(handle_);
  }

 private:
  void reduce(std::span<const Tensor> tensors) override {
    together("all_reduce", tensors, [this](const Tensor& tensor) {
      return ncclAllReduce(tensor.raw(), tensor.raw(), count_of(tensor), type_of(tensor.dtype()), ncclSum,
                           handle_->comm, context_.stream);
    });
  }

  void send_from(std::span<const Tensor> tensors, int root) override {
    together("broadcast", tensors, [this, root](const Tensor& tensor) {
      return ncclBroadcast(tensor.raw(), tensor.raw(), count_of(tensor), type_of(tensor.dtype()), root, handle_->comm,
                           context_.stream);
    });
  }

  void gather(const Tensor& mine, const Tensor& all) override {
    together("all_gather", std::span(&mine, 1), [&](const Tensor&) {
      return ncclAllGather(mine.raw(), all.raw(), count_of(mine), type_of(mine.dtype()), handle_->comm,
                           context_.stream);
    });
  }

  // Calls `f` for each of the tensors inside of a group, which ends also after a call that failed.
  template <class F>
  void together(const char* op, std::span<const Tensor> tensors, const F& f) {
    const OpScope scope(op, ScopeKind::update);
    context_of({context_.index});
    {
      const std::lock_guard lock(mutex_);
      check(handle_->comm != nullptr, op, reason_);
      const Timed timed(context_, op);
      if (recording()) keep_with_recording(handle_);
      check_call(ncclGroupStart(), "ncclGroupStart");
      ncclResult_t status = ncclSuccess;
      for (const Tensor& tensor : tensors)
        if (good(status)) status = f(tensor);
      const ncclResult_t ended = ncclGroupEnd();
      check_call(good(status) ? ended : status, op);
      // Until then the work may not be on the stream, and what is asked for next could overtake it.
      settle(op);
    }
    if (synchronous_launches() && !recording()) wait_for_others(context_);
  }

  void look(double waited) override {
    const std::lock_guard lock(mutex_);
    if (handle_->comm == nullptr) return;
    ncclResult_t state = ncclSuccess;
    check_call(ncclCommGetAsyncError(handle_->comm, &state), "ncclCommGetAsyncError");
    check_call(state, "a collective");
    if (waited > handle_->patience)
      give_up(text("after ", handle_->patience,
                   " s the device is still not done; another rank may have ended, or have made "
                   "other calls than this one"));
  }

  void settle(const char* call) {
    const train::Stopwatch waiting;
    for (;;) {
      ncclResult_t state = ncclSuccess;
      check_call(ncclCommGetAsyncError(handle_->comm, &state), "ncclCommGetAsyncError");
      if (state == ncclSuccess) return;
      check_call(state, call);
      const double waited = waiting.seconds();
      if (waited > handle_->patience)
        give_up(text(call, ": after ", handle_->patience, " s other ranks have not come"));
      std::this_thread::sleep_for(std::chrono::microseconds(waited < 0.01 ? 5 : 1000));
    }
  }

  static bool good(ncclResult_t status) { return status == ncclSuccess || status == ncclInProgress; }
  void check_call(ncclResult_t status, const char* call) {
    if (!good(status)) give_up(text(call, ": ", ncclGetErrorString(status), "; ", ncclGetLastError(handle_->comm)));
  }

  // Kernels that wait for other ranks end at once then.
  [[noreturn]] void give_up(const std::string& why) {
    reason_ = text("rank ", rank(), " of ", size(), " on ", device(), ", ", why,
                   "; the communicator cannot be used any more: start all ranks again, from the last checkpoint");
    Handle::abort(handle_);
    fail("nccl", reason_);
  }

  Context& context_;
  const int exceptions_ = std::uncaught_exceptions();
  std::mutex mutex_;  // other threads may wait for the device
  const std::shared_ptr<Handle> handle_;
  std::string reason_;  // why there is none
};

}  // namespace
}  // namespace cuda

namespace train {

CommunicatorId make_communicator_id(CudaContext which) {
  cuda::context_of(which);
  ncclUniqueId unique;
  const ncclResult_t status = ncclGetUniqueId(&unique);
  check(status == ncclSuccess, "nccl", "ncclGetUniqueId: ", ncclGetErrorString(status), "; ",
        ncclGetLastError(nullptr));
  CommunicatorId id;
  std::memcpy(id.bytes.data(), unique.internal, id.bytes.size());
  return id;
}

std::unique_ptr<Communicator> join_communicator(CudaContext which, const CommunicatorId& id, int rank, int size,
                                                double patience) {
  return std::make_unique<cuda::NcclCommunicator>(which, id, rank, size, patience);
}

}  // namespace train
}  // namespace duet
