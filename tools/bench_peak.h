#pragma once

#include <vector>

#include "duet/core/dtype.h"
#include "duet/core/json.h"
#include "duet/tools/bench_peak_kernels.h"

namespace duet::tools {

// Rounds of a kernel on all threads at once.
class PeakTrial {
 public:
  // Of as many rounds that starting the threads does not show, and few enough to fit between interruptions.
  explicit PeakTrial(const PeakKernel& kernel);
  void run();
  double gflops(double seconds) const;  // of one run that took so long

 private:
  PeakKernel kernel_;
  std::vector<float> results_;
  int64_t rounds_ = 0;
};

// The mean over many trials of 10 to 20 ms, in each of which the threads wait for the slowest: what the machine gives
// to a program that uses all cores in equal parts, with interruptions and what a hypervisor's other guests take. Trials
// may be run in between the steps of what they are compared with.
class SustainedPeak {
 public:
  explicit SustainedPeak(const PeakKernel& kernel) : trial_(kernel) {}
  void run_up_to(double seconds);  // of all trials so far
  double gflops() const { return trial_.gflops(seconds_ / static_cast<double>(trials_)); }
  double best_gflops() const { return trial_.gflops(shortest_); }

 private:
  PeakTrial trial_;
  double seconds_ = 0, shortest_ = 0;
  int64_t trials_ = 0;
};

// GFLOP/s of `kernel` on all of threads() threads at once: the best of several short trials, because whatever else the
// machine does can only slow a trial down.
double measure_peak_gflops(const PeakKernel& kernel);
// The faster one of the kernels that elements of this type can be multiplied with, bfloat16 also as float, each
// measured twice, and its GFLOP/s.
struct Peak {
  PeakKernel kernel;
  double gflops;
};
Peak measure_peak(DType dtype);
// A SustainedPeak's GFLOP/s over one second.
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
