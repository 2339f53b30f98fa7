#pragma once

#include <atomic>
#include <cstdint>

namespace duet {

// Whether a trace is being recorded (core/trace.h). What ops note for it costs one branch while none is.
inline std::atomic<bool> trace_recording{false};
inline bool tracing() {
  return trace_recording.load(std::memory_order_relaxed);
}

// What a scope's work is part of: a stretch of a step, an op's forward or backward, the optimizer, or making batches.
enum class ScopeKind : uint8_t { phase, forward, backward, update, data };

struct OpenEvent;

// Names the op or phase that runs on this thread while the scope lasts, for messages, profiles and traces. Names are
// string literals.
class OpScope {
 public:
  explicit OpScope(const char* op, ScopeKind kind = ScopeKind::forward) : previous_(current_) {
    current_ = op;
    if (observer) observer(op);
    if (tracing()) event_ = begin(op, kind);
  }
  ~OpScope() {
    if (event_ != nullptr) end(event_);
    if (observer) observer(nullptr);
    current_ = previous_;
  }
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;
  static const char* current() { return current_; }  // "" outside any op

  // Notes for the trace about the innermost scope of this thread. Autograd notes inputs and outputs, as memory that has
  // to be read or written once; an op adds what only it knows.
  // FLOPs of matrix products, 2 per multiply-add.
  static void computes(int64_t flops) {
    if (tracing()) add(flops, 0);
  }
  // Tensors besides inputs and outputs: saved activations, masks. Undefined ones do not count.
  template <class... Tensors>
  static void touches(const Tensors&... tensors) {
    if (tracing()) add(0, (int64_t{0} + ... + (tensors.defined() ? static_cast<int64_t>(tensors.bytes()) : 0)));
  }
  // Bytes of an op that needs only a part of its inputs and outputs, or leaves the work to scopes inside.
  static void moves(int64_t bytes) {
    if (tracing()) set_bytes(bytes);
  }

  // Told of every beginning, and with null of every end, when set; the GPU backend opens NVTX ranges.
  static inline void (*observer)(const char* op) = nullptr;

 private:
  static OpenEvent* begin(const char* op, ScopeKind kind);
  static void end(OpenEvent* event);
  static void add(int64_t flops, int64_t bytes);
  static void set_bytes(int64_t bytes);

  static thread_local const char* current_;
  const char* previous_;
  OpenEvent* event_ = nullptr;
};

}  // namespace duet
