#include "duet/tools/bench_peak.h"

#include <unistd.h>

#include <iomanip>

#include "duet/core/parallel.h"
#include "duet/core/tensor.h"
#include "duet/train/progress.h"

namespace duet::tools {
namespace {

constexpr int trials = 15;

// The shortest time of `f`, in seconds.
template <class F>
double best_seconds(F&& f) {
  double best = 0;
  for (int i = 0; i < trials; ++i) {
    const train::Stopwatch watch;
    f();
    const double seconds = watch.seconds();
    best = i == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

// Four times the last-level cache, within what a small machine can spare.
int64_t large_array_elements() {
  const int64_t cache = std::max<int64_t>(::sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
  return std::clamp<int64_t>(4 * cache, int64_t{64} << 20, int64_t{512} << 20) / static_cast<int64_t>(sizeof(float));
}

}  // namespace

PeakTrial::PeakTrial(const PeakKernel& kernel) : kernel_(kernel), results_(static_cast<size_t>(threads())) {
  constexpr double seconds = 0.01;
  for (rounds_ = 1000;; rounds_ *= 2) {
    const train::Stopwatch watch;
    run();
    if (watch.seconds() >= seconds) break;
  }
}

void PeakTrial::run() {
  parallel_for(static_cast<int64_t>(results_.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) results_[static_cast<size_t>(t)] = kernel_.run(rounds_);
  });
}

double PeakTrial::gflops(double seconds) const {
  for (const float r : results_) check(r > 0, "peak", kernel_.name, " computed ", r);
  return static_cast<double>(rounds_) * kernel_.flops_per_round * static_cast<double>(results_.size()) / seconds * 1e-9;
}

void SustainedPeak::run_up_to(double seconds) {
  while (seconds_ < seconds) {
    const train::Stopwatch watch;
    trial_.run();
    const double taken = watch.seconds();
    seconds_ += taken;
    shortest_ = trials_++ == 0 ? taken : std::min(shortest_, taken);
  }
}

double measure_peak_gflops(const PeakKernel& kernel) {
  PeakTrial trial(kernel);
  return trial.gflops(best_seconds([&] { trial.run(); }));
}

Peak measure_peak(DType dtype) {
  Peak best{float32_peak_kernel(), 0};
  for (int round = 0; round < 2; ++round)
    for (const std::optional<PeakKernel>& kernel :
         {std::optional(float32_peak_kernel()), dtype == DType::bf16 ? bfloat16_peak_kernel() : std::nullopt}) {
      if (!kernel) continue;
      const double gflops = measure_peak_gflops(*kernel);
      if (gflops > best.gflops) best = {*kernel, gflops};
    }
  return best;
}

double measure_sustained_gflops(const PeakKernel& kernel) {
  SustainedPeak sustained(kernel);
  sustained.run_up_to(1);
  return sustained.gflops();
}

Bandwidth measure_bandwidth() {
  const int64_t n = large_array_elements();
  const Tensor x = Tensor::empty({n}, DType::f32), y = Tensor::empty({n}, DType::f32),
               z = Tensor::empty({n}, DType::f32);
  float *px = x.data<float>(), *py = y.data<float>(), *pz = z.data<float>();
  // First touched by the thread that uses it, so that pages lie near it.
  parallel_for(
      n, 1,
      [=](int64_t begin, int64_t end) {
        std::fill(px + begin, px + end, 1.0f);
        std::fill(py + begin, py + end, 2.0f);
        std::fill(pz + begin, pz + end, 3.0f);
      },
      1);
  const double copy = best_seconds([&] {
    parallel_for(
        n, 1, [=](int64_t begin, int64_t end) { std::copy(px + begin, px + end, py + begin); }, 1);
  });
  const double triad = best_seconds([&] {
    parallel_for(
        n, 1,
        [=](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) py[i] = px[i] + 0.5f * pz[i];
        },
        1);
  });
  const double gigabytes = static_cast<double>(x.bytes()) * 1e-9;
  return {2 * gigabytes / copy, 3 * gigabytes / triad};
}

Json measure_peaks(const std::vector<int>& thread_counts) {
  const PeakKernel float32 = float32_peak_kernel();
  const std::optional<PeakKernel> bfloat16 = bfloat16_peak_kernel();
  Json results = Json::array();
  for (const int count : thread_counts) {
    set_threads(count);
    const Bandwidth bandwidth = measure_bandwidth();
    results.push_back({{"threads", count},
                       {"float32_gflops", measure_peak_gflops(float32)},
                       {"float32_sustained_gflops", measure_sustained_gflops(float32)},
                       {"bfloat16_gflops", bfloat16 ? Json(measure_peak_gflops(*bfloat16)) : Json()},
                       {"copy_gb_per_second", bandwidth.copy},
                       {"triad_gb_per_second", bandwidth.triad}});
  }
  return {{"float32_kernel", float32.name},
          {"bfloat16_kernel", bfloat16 ? Json(bfloat16->name) : Json()},
          {"results", results}};
}

std::string peak_table(const Json& peaks) {
  std::ostringstream out;
  out << "float32   " << peaks["float32_kernel"].get<std::string>() << '\n';
  out << "bfloat16  "
      << (peaks["bfloat16_kernel"].is_null() ? "this processor has no AVX512-BF16"
                                             : peaks["bfloat16_kernel"].get<std::string>())
      << "\n\nthreads  float32 GFLOP/s  sustained  bfloat16 GFLOP/s  copy GB/s  triad GB/s\n";
  const auto cell = [&](const Json& value, int width) {
    out << std::setw(width);
    value.is_null() ? out << "-" : out << value.get<double>();
  };
  out << std::fixed << std::setprecision(1);
  for (const Json& r : peaks["results"]) {
    out << std::setw(7) << r["threads"].get<int>();
    cell(r["float32_gflops"], 17);
    cell(r["float32_sustained_gflops"], 11);
    cell(r["bfloat16_gflops"], 18);
    cell(r["copy_gb_per_second"], 11);
    cell(r["triad_gb_per_second"], 12);
    out << '\n';
  }
  return out.str();
}

}  // namespace duet::tools
