#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(DUET_EMULATION_UCONTEXT)
#define DUET_EMULATION_OWN_SWITCH 1
#else
#define DUET_EMULATION_OWN_SWITCH 0
#include <ucontext.h>
#endif

namespace duet::emulation {

// A point of execution to switch away from and back to. On x86-64 a switch saves seven registers (about 2 ns);
// elsewhere it is ucontext's.
class Context {
 public:
  // Makes the next switch_to() run `entry` on the given stack; `entry` must never return.
  void prepare(std::byte* stack_low, size_t stack_bytes, void (*entry)());
  // Saves this point of execution in `from` and continues `to`.
  static void switch_between(Context& from, Context& to);

 private:
#if DUET_EMULATION_OWN_SWITCH
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

// A stack for emulated threads, with a page below it that must not be touched.
struct Fiber {
  Context context;
  std::byte* low = nullptr;
  size_t bytes = 0;
  size_t offset = 0;  // the top starts this far down: equal tops of all stacks would share the same few cache lines

  explicit Fiber(size_t number);
  Fiber(const Fiber&) = delete;
  ~Fiber();
  void restart(void (*entry)()) { context.prepare(low, bytes - offset, entry); }
  bool contains(uintptr_t address) const { return address - reinterpret_cast<uintptr_t>(low) < bytes; }
  bool guard_contains(uintptr_t address) const;
};

}  // namespace duet::emulation
