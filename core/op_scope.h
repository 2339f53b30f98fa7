#pragma once

namespace duet {

// Names the op or phase that runs on this thread while the scope lasts, for messages, profiles and traces.
class OpScope {
 public:
  explicit OpScope(const char* op) : previous_(current_) {
    current_ = op;
    if (observer) observer(op);
  }
  ~OpScope() {
    if (observer) observer(nullptr);
    current_ = previous_;
  }
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;
  static const char* current() { return current_; }  // "" outside any op

  // Told of every beginning, and with null of every end, when set; the GPU backend opens NVTX ranges.
  static inline void (*observer)(const char* op) = nullptr;

 private:
  static thread_local const char* current_;
  const char* previous_;
};

}  // namespace duet
