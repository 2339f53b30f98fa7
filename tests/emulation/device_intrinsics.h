// Device functions: barriers, warp operations, atomics and arithmetic. Included by device.h only.
#pragma once

#include <math.h>

#include <bit>
#include <cmath>

inline void __syncthreads() {
  duet::emulation::block_barrier(duet::emulation::BlockOp::sync, false);
}
inline int __syncthreads_count(int p) {
  return duet::emulation::block_barrier(duet::emulation::BlockOp::count, p != 0);
}
inline int __syncthreads_and(int p) {
  return duet::emulation::block_barrier(duet::emulation::BlockOp::all, p != 0);
}
inline int __syncthreads_or(int p) {
  return duet::emulation::block_barrier(duet::emulation::BlockOp::any, p != 0);
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  duet::emulation::warp_exchange(duet::emulation::WarpOp::sync, mask, 0, 0, 32);
}
inline void __threadfence() {
  duet::emulation::memory_fence();
}
inline void __threadfence_block() {}
inline void __threadfence_system() {
  duet::emulation::memory_fence();
}
[[noreturn]] inline void __trap() {
  duet::emulation::trap("__trap()");
}

namespace duet::emulation {
template <class T>
T shuffle(WarpOp op, unsigned mask, T value, int argument, int width) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = warp_exchange(op, mask, bits, argument, width);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace duet::emulation

#define DUET_EMULATED_SHUFFLES(T)                                                                                      \
  inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {                                             \
    return duet::emulation::shuffle(duet::emulation::WarpOp::shuffle, mask, value, lane, width);                       \
  }                                                                                                                    \
  inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {                                    \
    return duet::emulation::shuffle(duet::emulation::WarpOp::shuffle_up, mask, value, static_cast<int>(delta), width); \
  }                                                                                                                    \
  inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {                                  \
    return duet::emulation::shuffle(duet::emulation::WarpOp::shuffle_down, mask, value, static_cast<int>(delta),       \
                                    width);                                                                            \
  }                                                                                                                    \
  inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {                                        \
    return duet::emulation::shuffle(duet::emulation::WarpOp::shuffle_xor, mask, value, lanes, width);                  \
  }
DUET_EMULATED_SHUFFLES(int)
DUET_EMULATED_SHUFFLES(unsigned)
DUET_EMULATED_SHUFFLES(long)
DUET_EMULATED_SHUFFLES(unsigned long)
DUET_EMULATED_SHUFFLES(long long)
DUET_EMULATED_SHUFFLES(unsigned long long)
DUET_EMULATED_SHUFFLES(float)
DUET_EMULATED_SHUFFLES(double)
#undef DUET_EMULATED_SHUFFLES

inline unsigned __ballot_sync(unsigned mask, int p) {
  return static_cast<unsigned>(duet::emulation::warp_exchange(duet::emulation::WarpOp::ballot, mask, p != 0, 0, 32));
}
inline int __any_sync(unsigned mask, int p) {
  return static_cast<int>(duet::emulation::warp_exchange(duet::emulation::WarpOp::any, mask, p != 0, 0, 32));
}
inline int __all_sync(unsigned mask, int p) {
  return static_cast<int>(duet::emulation::warp_exchange(duet::emulation::WarpOp::all, mask, p != 0, 0, 32));
}

namespace duet::emulation {
// Threads give way only at barriers, so check, read and write are one step.
template <class T, class F>
__attribute__((no_sanitize("thread"), noinline)) T atomic_update(T* address, F&& change) {
  atomic_access(address, sizeof(T));
  const T old = *address;
  *address = change(old);
  return old;
}
}  // namespace duet::emulation

#define DUET_EMULATED_ATOMIC(name, T, expression)                                                               \
  inline T name(T* address, T value) {                                                                          \
    return duet::emulation::atomic_update(                                                                      \
        address, [value](T old) __attribute__((no_sanitize("thread"))) { return static_cast<T>(expression); }); \
  }
DUET_EMULATED_ATOMIC(atomicAdd, int, static_cast<unsigned>(old) + static_cast<unsigned>(value))
DUET_EMULATED_ATOMIC(atomicAdd, unsigned, old + value)
DUET_EMULATED_ATOMIC(atomicAdd, unsigned long long, old + value)
DUET_EMULATED_ATOMIC(atomicAdd, float, old + value)
DUET_EMULATED_ATOMIC(atomicAdd, double, old + value)
DUET_EMULATED_ATOMIC(atomicSub, int, static_cast<unsigned>(old) - static_cast<unsigned>(value))
DUET_EMULATED_ATOMIC(atomicSub, unsigned, old - value)
DUET_EMULATED_ATOMIC(atomicExch, int, (static_cast<void>(old), value))
DUET_EMULATED_ATOMIC(atomicExch, unsigned, (static_cast<void>(old), value))
DUET_EMULATED_ATOMIC(atomicExch, unsigned long long, (static_cast<void>(old), value))
DUET_EMULATED_ATOMIC(atomicExch, float, (static_cast<void>(old), value))
DUET_EMULATED_ATOMIC(atomicMax, int, old < value ? value : old)
DUET_EMULATED_ATOMIC(atomicMax, unsigned, old < value ? value : old)
DUET_EMULATED_ATOMIC(atomicMax, unsigned long long, old < value ? value : old)
DUET_EMULATED_ATOMIC(atomicMin, int, old < value ? old : value)
DUET_EMULATED_ATOMIC(atomicMin, unsigned, old < value ? old : value)
DUET_EMULATED_ATOMIC(atomicMin, unsigned long long, old < value ? old : value)
DUET_EMULATED_ATOMIC(atomicAnd, unsigned, old& value)
DUET_EMULATED_ATOMIC(atomicOr, int, old | value)
DUET_EMULATED_ATOMIC(atomicOr, unsigned, old | value)
DUET_EMULATED_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
#undef DUET_EMULATED_ATOMIC

#define DUET_EMULATED_CAS(T)                                                                                  \
  inline T atomicCAS(T* address, T compare, T value) {                                                        \
    return duet::emulation::atomic_update(                                                                    \
        address, [=](T old) __attribute__((no_sanitize("thread"))) { return old == compare ? value : old; }); \
  }
DUET_EMULATED_CAS(int)
DUET_EMULATED_CAS(unsigned)
DUET_EMULATED_CAS(unsigned short)
DUET_EMULATED_CAS(unsigned long long)
#undef DUET_EMULATED_CAS

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}
template <class T>
void __stwb(T* address, T value) {
  *address = value;
}

inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline long long __double_as_longlong(double x) {
  return std::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return std::bit_cast<double>(x);
}

inline float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
inline double rsqrt(double x) {
  return 1.0 / std::sqrt(x);
}
inline float __frsqrt_rn(float x) {
  return 1.0f / sqrtf(x);
}
inline float __fsqrt_rn(float x) {
  return sqrtf(x);
}
inline float __expf(float x) {
  return expf(x);
}
inline float __exp10f(float x) {
  return powf(10.0f, x);
}
inline float __logf(float x) {
  return logf(x);
}
inline float __log2f(float x) {
  return log2f(x);
}
inline float __powf(float x, float y) {
  return powf(x, y);
}
inline float __sinf(float x) {
  return sinf(x);
}
inline float __cosf(float x) {
  return cosf(x);
}
inline float __tanhf(float x) {
  return tanhf(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float fdividef(float x, float y) {
  return x / y;
}
inline float __fdiv_rn(float x, float y) {
  return x / y;
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float __fadd_rn(float x, float y) {
  return x + y;
}
inline float __fsub_rn(float x, float y) {
  return x - y;
}
inline float __fmul_rn(float x, float y) {
  return x * y;
}
inline float __fmaf_rn(float x, float y, float z) {
  return fmaf(x, y, z);
}
inline float __saturatef(float x) {
  return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f;
}
inline int __float2int_rn(float x) {
  return static_cast<int>(nearbyintf(x));
}
inline int __float2int_rz(float x) {
  return static_cast<int>(x);
}
inline float __int2float_rn(int x) {
  return static_cast<float>(x);
}
inline float __uint2float_rn(unsigned x) {
  return static_cast<float>(x);
}

inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __popcll(unsigned long long x) {
  return std::popcount(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return std::countl_zero(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((uint64_t{a} * b) >> 32);
}
inline int __mulhi(int a, int b) {
  return static_cast<int>((int64_t{a} * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}

#define DUET_EMULATED_MIN_MAX(T) \
  inline T min(T a, T b) {       \
    return b < a ? b : a;        \
  }                              \
  inline T max(T a, T b) {       \
    return a < b ? b : a;        \
  }
DUET_EMULATED_MIN_MAX(int)
DUET_EMULATED_MIN_MAX(unsigned)
DUET_EMULATED_MIN_MAX(long)
DUET_EMULATED_MIN_MAX(unsigned long)
DUET_EMULATED_MIN_MAX(long long)
DUET_EMULATED_MIN_MAX(unsigned long long)
#undef DUET_EMULATED_MIN_MAX
inline unsigned min(int a, unsigned b) {
  return min(static_cast<unsigned>(a), b);
}
inline unsigned min(unsigned a, int b) {
  return min(a, static_cast<unsigned>(b));
}
inline unsigned max(int a, unsigned b) {
  return max(static_cast<unsigned>(a), b);
}
inline unsigned max(unsigned a, int b) {
  return max(a, static_cast<unsigned>(b));
}
// A NaN gives way to a number, as on the device.
inline float min(float a, float b) {
  return fminf(a, b);
}
inline float max(float a, float b) {
  return fmaxf(a, b);
}
inline double min(double a, double b) {
  return std::fmin(a, b);
}
inline double max(double a, double b) {
  return std::fmax(a, b);
}
