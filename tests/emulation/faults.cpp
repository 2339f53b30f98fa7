// Faults and errors: what CUDA calls return after something went wrong, and the signal handler that tells of host
// accesses to device memory.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "duet/core/error.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/emulation.h"
#include "duet/tests/emulation/runtime.h"
#include "duet/tests/emulation/scheduler.h"
#include "duet/tests/emulation/streams.h"

namespace duet::emulation {

namespace {

struct Faults {
  cudaError_t code = cudaSuccess;  // of the first fault; all calls return it
  std::string message;
  std::string shown;  // holds what cudaGetErrorString returned
  cudaError_t last = cudaSuccess;
  std::string last_reason;
};

Faults& faults() {
  static Faults& instance = *new Faults;
  return instance;
}

// A fault that no test looked at must not pass unseen.
struct AtExit {
  ~AtExit() {
    if (faults().code == cudaSuccess) return;
    std::fprintf(stderr, "emulated device: a fault was not looked at: %s\n", faults().message.c_str());
    std::_Exit(1);
  }
} at_exit;

void write_text(const char* message) {
  if (::write(STDERR_FILENO, message, std::strlen(message)) < 0) return;
}

// Async-signal-safe apart from the formatting, whose failure would lose only the text of a crash.
void on_segmentation_fault(int signal_number, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  signal(signal_number, SIG_DFL);
  char message[512];
  if (in_kernel && is_stack_overflow(address)) {
    write_text("emulated device: stack overflow in an emulated thread (256 KiB)\n");
  } else if (in_arena(address)) {
    std::snprintf(message, sizeof(message), "emulated device: the host touched device memory: %s\n",
                  describe_address(address, 1).c_str());
    write_text(message);
  }
  // Returning runs the instruction again, now with the default action.
}

}  // namespace

bool RuntimeMutex::wait_for_change(std::chrono::steady_clock::time_point until) {
  const int depth = depth_;
  for (int i = 1; i < depth; i++) unlock();
  const bool changed = change_.wait_until(*this, until) == std::cv_status::no_timeout;
  for (int i = 1; i < depth; i++) lock();
  return changed;
}

RuntimeMutex& runtime_mutex() {
  static RuntimeMutex& mutex = *new RuntimeMutex;
  return mutex;
}

std::unique_lock<RuntimeMutex> lock_runtime() {
  return std::unique_lock(runtime_mutex());
}

void install_signal_handler() {
  static thread_local bool has_stack = false;
  if (!has_stack) {
    constexpr size_t bytes = 64 << 10;  // an overflown stack cannot run the handler
    stack_t stack{};
    stack.ss_sp = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack.ss_size = bytes;
    if (stack.ss_sp != MAP_FAILED) sigaltstack(&stack, nullptr);
    has_stack = true;
  }
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_segmentation_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    return sigaction(SIGSEGV, &action, nullptr) == 0;
  }();
  check(installed, "emulation", "cannot install a signal handler");
}

void set_fault(cudaError_t code, const std::string& message) {
  if (faults().code != cudaSuccess) return;
  faults().code = code;
  faults().message = message;
  runtime_mutex().changed();
}

cudaError_t fault_code() {
  return faults().code;
}

cudaError_t report(cudaError_t code) {
  if (faults().code != cudaSuccess) return faults().code;
  if (code != cudaSuccess) {
    faults().last = code;
    faults().last_reason.clear();
  }
  return code;
}

cudaError_t report(cudaError_t code, const std::string& reason) {
  const cudaError_t result = report(code);
  if (faults().code == cudaSuccess) faults().last_reason = reason;
  return result;
}

std::string take_error() {
  const auto lock = lock_runtime();
  run_all_pending();
  std::string message = faults().message;
  faults() = {};
  return message;
}

Statistics statistics() {
  const auto lock = lock_runtime();
  Statistics result;
  result.launches = launched_kernels();
  result.threads = launched_threads();
  result.operations = current_operation().id;
  count_allocations(result.allocations, result.bytes);
  return result;
}

}  // namespace duet::emulation

using namespace duet::emulation;

namespace {

struct ErrorText {
  cudaError_t code;
  const char* name;
  const char* text;
};

constexpr ErrorText error_texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "stream capture was not initiated in this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
     "the graph update was not performed because it included changes which violated constraints"},
};

const ErrorText* find_text(cudaError_t code) {
  for (const ErrorText& entry : error_texts) {
    if (entry.code == code) return &entry;
  }
  return nullptr;
}

}  // namespace

extern "C" {

const char* cudaGetErrorName(cudaError_t code) {
  const ErrorText* found = find_text(code);
  return found ? found->name : "unrecognized error code";
}

// Unlike the real one, adds what the emulation knows about the error.
const char* cudaGetErrorString(cudaError_t code) {
  const auto lock = lock_runtime();
  const ErrorText* found = find_text(code);
  Faults& all = faults();
  const std::string& reason = code == all.code ? all.message : code == all.last ? all.last_reason : std::string();
  if (!found || code == cudaSuccess || reason.empty()) return found ? found->text : "unrecognized error code";
  all.shown = duet::text(found->text, ": ", reason);
  return all.shown.c_str();
}

cudaError_t cudaPeekAtLastError() {
  const auto lock = lock_runtime();
  return faults().code != cudaSuccess ? faults().code : faults().last;
}

cudaError_t cudaGetLastError() {
  const auto lock = lock_runtime();
  const cudaError_t code = cudaPeekAtLastError();
  faults().last = cudaSuccess;
  return code;
}
}
