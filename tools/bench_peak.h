#pragma once

#include "duet/core/dtype.h"
#include "duet/core/json.h"
#include "duet/tools/bench_peak_kernels.h"

namespace duet::tools {

// GFLOP/s of `kernel` on all of threads() threads at once: the best of several short trials, because whatever else the
// machine does can only slow a trial down.
double measure_peak_gflops(const PeakKernel& kernel);
// The highest with which elements of this type can be multiplied: bfloat16 may be so as float, where that is faster.
double measure_peak_gflops(DType dtype);
// GFLOP/s over one second of trials of 10 to 20 ms, in each of which the threads wait for the slowest: what the machine
// gives to a program that uses all cores in equal parts, with interruptions and what a hypervisor's other guests take.
double measure_sustained_gflops(const PeakKernel& kernel);

struct Bandwidth {
  double copy = 0;   // GB/s of y = x, bytes read plus bytes written
  double triad = 0;  // GB/s of y = x + s z; the read that a cached write needs first is not counted (McCalpin's STREAM)
};
// Over arrays too large for the caches, on threads() threads.
Bandwidth measure_bandwidth();

// Measures each thread count: {"float32_kernel", "bfloat16_kernel", "results": [{"threads", "float32_gflops", ...}]}.
Json measure_peaks(const std::vector<int>& thread_counts);
std::string peak_table(const Json& peaks);

}  // namespace duet::tools
