// The other functions that the compiler calls in files built with -fsanitize=thread,alignment,bounds: atomics, which
// must stay atomic for host threads, and reports of undefined behaviour.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "duet/core/error.h"
#include "duet/tests/emulation/kernel_call.h"
#include "duet/tests/emulation/scheduler.h"

using duet::emulation::atomic_access;

// Orders are ignored: the strongest is always right.
#define DUET_TSAN_ATOMIC(bits, T)                                                            \
  T __tsan_atomic##bits##_load(const volatile T* a, int) {                                   \
    return __atomic_load_n(a, __ATOMIC_SEQ_CST);                                             \
  }                                                                                          \
  void __tsan_atomic##bits##_store(volatile T* a, T v, int) {                                \
    __atomic_store_n(a, v, __ATOMIC_SEQ_CST);                                                \
  }                                                                                          \
  DUET_TSAN_UPDATE(bits, T, exchange, __atomic_exchange_n)                                   \
  DUET_TSAN_UPDATE(bits, T, fetch_add, __atomic_fetch_add)                                   \
  DUET_TSAN_UPDATE(bits, T, fetch_sub, __atomic_fetch_sub)                                   \
  DUET_TSAN_UPDATE(bits, T, fetch_and, __atomic_fetch_and)                                   \
  DUET_TSAN_UPDATE(bits, T, fetch_or, __atomic_fetch_or)                                     \
  DUET_TSAN_UPDATE(bits, T, fetch_xor, __atomic_fetch_xor)                                   \
  DUET_TSAN_UPDATE(bits, T, fetch_nand, __atomic_fetch_nand)                                 \
  DUET_TSAN_COMPARE(bits, T, strong)                                                         \
  DUET_TSAN_COMPARE(bits, T, weak)                                                           \
  T __tsan_atomic##bits##_compare_exchange_val(volatile T* a, T expected, T v, int, int) {   \
    atomic_access(const_cast<T*>(a), sizeof(T));                                             \
    __atomic_compare_exchange_n(a, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    return expected;                                                                         \
  }
#define DUET_TSAN_UPDATE(bits, T, name, builtin)            \
  T __tsan_atomic##bits##_##name(volatile T* a, T v, int) { \
    atomic_access(const_cast<T*>(a), sizeof(T));            \
    return builtin(a, v, __ATOMIC_SEQ_CST);                 \
  }
#define DUET_TSAN_COMPARE(bits, T, kind)                                                           \
  int __tsan_atomic##bits##_compare_exchange_##kind(volatile T* a, T* expected, T v, int, int) {   \
    atomic_access(const_cast<T*>(a), sizeof(T));                                                   \
    return __atomic_compare_exchange_n(a, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }

extern "C" {

DUET_TSAN_ATOMIC(8, uint8_t)
DUET_TSAN_ATOMIC(16, uint16_t)
DUET_TSAN_ATOMIC(32, uint32_t)
DUET_TSAN_ATOMIC(64, uint64_t)
void __tsan_atomic_thread_fence(int) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void __tsan_atomic_signal_fence(int) {}

// The layouts that g++ and clang give these reports.
struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
struct TypeMismatch {
  SourceLocation at;
  const void* type;
  unsigned char log_alignment;
  unsigned char kind;
};
struct OutOfBounds {
  SourceLocation at;
  const void* array_type;
  const void* index_type;
};
}

namespace {

[[noreturn]] void undefined_behaviour(cudaError_t code, const std::string& what, const SourceLocation& at) {
  const std::string message = duet::text(what, " at ", at.file ? at.file : "?", ":", at.line);
  if (duet::emulation::in_kernel) duet::emulation::fail_in_kernel(code, message);
  std::fprintf(stderr, "emulated device: undefined behaviour in host code: %s\n", message.c_str());
  std::abort();
}

}  // namespace

extern "C" {

void __ubsan_handle_type_mismatch_v1(TypeMismatch* data, uintptr_t pointer) {
  const uintptr_t alignment = uintptr_t{1} << data->log_alignment;
  undefined_behaviour(cudaErrorMisalignedAddress,
                      pointer == 0 ? std::string("null pointer")
                                   : duet::text("misaligned: ", reinterpret_cast<void*>(pointer),
                                                " is not a multiple of ", alignment, ", used"),
                      data->at);
}

void __ubsan_handle_out_of_bounds(OutOfBounds* data, uintptr_t index) {
  undefined_behaviour(cudaErrorIllegalAddress,
                      duet::text("out of bounds: index ", static_cast<intptr_t>(index), " of an array"), data->at);
}
}
