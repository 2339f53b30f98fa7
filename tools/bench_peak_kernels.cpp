#include "duet/tools/bench_peak_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace duet::tools {
namespace {

// Each sum converges to 2 and so never leaves the normal numbers.
constexpr float start = 1.0f, factor = 0.5f, addend = 1.0f;

// As many independent sums as registers allow: more than latency times throughput of every processor so far.
constexpr int sums_of_16_registers = 12, sums_of_32_registers = 24;

float portable(int64_t rounds) {
  typedef float Vector __attribute__((vector_size(16)));
  Vector sums[sums_of_16_registers];
  for (Vector& s : sums) s = Vector{} + start;
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (Vector& s : sums) s = s * factor + addend;
  float total = 0;
  for (const Vector& s : sums) total += s[0];
  return total;
}

#if defined(__x86_64__)

__attribute__((target("avx2,fma"))) float avx2(int64_t rounds) {
  const __m256 f = _mm256_set1_ps(factor), a = _mm256_set1_ps(addend);
  __m256 sums[sums_of_16_registers];
  for (__m256& s : sums) s = _mm256_set1_ps(start);
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (__m256& s : sums) s = _mm256_fmadd_ps(s, f, a);
  float total = 0;
  for (const __m256& s : sums) total += s[0];
  return total;
}

__attribute__((target("avx512f"))) float avx512(int64_t rounds) {
  const __m512 f = _mm512_set1_ps(factor), a = _mm512_set1_ps(addend);
  __m512 sums[sums_of_32_registers];
  for (__m512& s : sums) s = _mm512_set1_ps(start);
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 24
    for (__m512& s : sums) s = _mm512_fmadd_ps(s, f, a);
  float total = 0;
  for (const __m512& s : sums) total += s[0];
  return total;
}

__attribute__((target("avx512f,avx512bf16"))) float avx512_bf16(int64_t rounds) {
  // Pairs (0.5, 0.5) and (0.5, -0.5): the two products cancel, and the sums stay what they are.
  const __m512bh f = (__m512bh)_mm512_set1_epi32(0x3F003F00), g = (__m512bh)_mm512_set1_epi32(0x3F00BF00);
  __m512 sums[sums_of_32_registers];
  for (__m512& s : sums) s = _mm512_set1_ps(start);
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 24
    for (__m512& s : sums) s = _mm512_dpbf16_ps(s, f, g);
  float total = 0;
  for (const __m512& s : sums) total += s[0];
  return total;
}

#endif

}  // namespace

PeakKernel float32_peak_kernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {"AVX-512 FMA", 2.0 * 16 * sums_of_32_registers, avx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {"AVX2 FMA", 2.0 * 8 * sums_of_16_registers, avx2};
#endif
  return {"128-bit multiply and add", 2.0 * 4 * sums_of_16_registers, portable};
}

std::optional<PeakKernel> bfloat16_peak_kernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16"))
    return PeakKernel{"AVX512-BF16 dot product", 2.0 * 32 * sums_of_32_registers, avx512_bf16};
#endif
  return std::nullopt;
}

}  // namespace duet::tools
