#include "duet/tests/emulation/fiber.h"

#include <sys/mman.h>

#include <cstdlib>

#include "duet/core/error.h"

#if DUET_EMULATION_OWN_SWITCH
// void duet_emulation_switch(void** save, void* load): pushes the registers that a call preserves, swaps stacks.
extern "C" void duet_emulation_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl duet_emulation_switch
.type duet_emulation_switch, @function
duet_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size duet_emulation_switch, .-duet_emulation_switch
)");
#endif

namespace duet::emulation {

namespace {
constexpr size_t kGuardBytes = 4096;
constexpr size_t kStackBytes = 256 << 10;
}  // namespace

#if DUET_EMULATION_OWN_SWITCH

void Context::prepare(std::byte* stack_low, size_t stack_bytes, void (*entry)()) {
  auto* top = reinterpret_cast<uint64_t*>((reinterpret_cast<uintptr_t>(stack_low) + stack_bytes) & ~uintptr_t{63});
  // Where entry's caller would be; leaves the stack aligned as after a call.
  for (int i = 0; i < 3; i++) *--top = 0;
  *--top = reinterpret_cast<uint64_t>(entry);
  for (int i = 0; i < 6; i++) *--top = 0;
  stack_pointer_ = top;
}

void Context::switch_between(Context& from, Context& to) {
  duet_emulation_switch(&from.stack_pointer_, to.stack_pointer_);
}

#else

void Context::prepare(std::byte* stack_low, size_t stack_bytes, void (*entry)()) {
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_low;
  context_.uc_stack.ss_size = stack_bytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
}

void Context::switch_between(Context& from, Context& to) {
  swapcontext(&from.context_, &to.context_);
}

#endif

Fiber::Fiber(size_t number) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  check(memory != MAP_FAILED, "emulation", "no memory for the stack of an emulated thread");
  mprotect(memory, kGuardBytes, PROT_NONE);
  low = static_cast<std::byte*>(memory) + kGuardBytes;
  bytes = kStackBytes;
  offset = number % 61 * 320;
}

Fiber::~Fiber() {
  munmap(low - kGuardBytes, kGuardBytes + kStackBytes);
}

bool Fiber::guard_contains(uintptr_t address) const {
  return reinterpret_cast<uintptr_t>(low) - kGuardBytes <= address && address < reinterpret_cast<uintptr_t>(low);
}

}  // namespace duet::emulation
