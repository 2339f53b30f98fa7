#include <gtest/gtest.h>

#include <cmath>

#include "duet/core/parallel.h"
#include "duet/tests/tools/run_duet.h"
#include "duet/tools/bench_peak.h"
#include "duet/tools/bench_step.h"

namespace duet::tools {
namespace {

TEST(BenchPeak, KernelsComputeWhatTheyShould) {
  const PeakKernel float32 = float32_peak_kernel();
  // Every sum goes to 2; the number of sums is the number of multiply-adds over the vector width.
  const float total = float32.run(100);
  EXPECT_EQ(total, 2 * std::round(total / 2));
  EXPECT_GE(total, 24);
  const auto bfloat16 = bfloat16_peak_kernel();
  EXPECT_EQ(bfloat16 ? bfloat16->run(1000) : 24, 24);
}

TEST(BenchPeak, MeasuresPositiveRatesForEachThreadCount) {
  const Json peaks = measure_peaks({1});
  ASSERT_EQ(peaks["results"].size(), 1u);
  const Json& r = peaks["results"][0];
  EXPECT_EQ(r["threads"], 1);
  for (const char* key : {"float32_gflops", "copy_gb_per_second", "triad_gb_per_second"})
    EXPECT_GT(r[key].get<double>(), 0.01) << key;
  EXPECT_EQ(r["bfloat16_gflops"].is_null(), !bfloat16_peak_kernel());
  EXPECT_NE(peak_table(peaks).find(std::string(float32_peak_kernel().name)), std::string::npos);
}

TEST(BenchStep, ReportsExactlyTheContractsKeys) {
  const Json r = measure_step({.size = "mini", .batch = 2, .seq = 8, .steps = 3, .warmup_steps = 2});
  std::vector<std::string> keys;
  for (const auto& [key, value] : r.items()) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"size", "dtype", "batch", "seq", "threads", "step_seconds",
                                            "forward_seconds", "backward_seconds", "optimizer_seconds",
                                            "samples_per_second", "gflop_per_step", "gflops", "peak_gflops",
                                            "fraction_of_peak", "peak_rss_bytes", "allocations_per_step"}));
  EXPECT_EQ(r["size"], "mini");
  EXPECT_EQ(r["batch"], 2);
  EXPECT_EQ(r["seq"], 8);
  EXPECT_EQ(r["threads"], threads());
  const double seconds = r["step_seconds"];
  EXPECT_GT(seconds, 0);
  EXPECT_LE(r["forward_seconds"].get<double>() + r["optimizer_seconds"].get<double>(), 2 * seconds);
  EXPECT_DOUBLE_EQ(r["samples_per_second"], 2 / seconds);
  EXPECT_DOUBLE_EQ(r["gflops"], r["gflop_per_step"].get<double>() / seconds);
  EXPECT_DOUBLE_EQ(r["fraction_of_peak"], r["gflops"].get<double>() / r["peak_gflops"].get<double>());
  EXPECT_GT(r["peak_rss_bytes"].get<int64_t>(), 10 << 20);
}

// By hand: mini has a ViT of 3 layers, width 96, 65 tokens of 8x8x3 pixels, and a BERT of 2 layers, width 128. A layer
// multiplies (T, D) by 12 D^2 weights and does 2 T^2 D multiply-adds of attention.
TEST(BenchStep, CountsMatmulFlops) {
  const auto layer = [](double t, double d) { return 2 * (12 * t * d * d + 2 * t * t * d); };
  const double forward = 3 * layer(65, 96) + 2 * 64 * 192 * 96 + 2 * layer(8, 128);
  const Json r = measure_step({.size = "mini", .batch = 2, .seq = 8, .steps = 1, .warmup_steps = 0});
  EXPECT_NEAR(r["gflop_per_step"].get<double>() / (2 * 3 * forward * 1e-9), 1, 0.005);
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(BenchStep, AllocatesNothingAfterTheWarmUp) {
  const Json r = measure_step({.size = "mini", .batch = 2, .seq = 8, .steps = 2, .warmup_steps = 2});
  EXPECT_EQ(r["allocations_per_step"], 0);
}
#endif

TEST(BenchStep, CommandPrintsJsonAloneOnStandardOutput) {
  const auto run = run_duet("bench step --size mini --batch 1 --seq 4 --steps 1 --warmup-steps 0 --threads 1 --json");
  ASSERT_EQ(run.status, 0) << run.err;
  const Json r = parse_json(run.out, "standard output");
  EXPECT_EQ(r["threads"], 1);
  EXPECT_EQ(r["dtype"], "float32");
  EXPECT_NE(run.err.find("device    cpu"), std::string::npos) << run.err;
}

TEST(BenchStep, Bfloat16IsComparedWithItsOwnPeak) {
  const StepBenchmark small{.size = "mini", .dtype = "bfloat16", .batch = 2, .seq = 8, .steps = 1, .warmup_steps = 1};
  const Json r = measure_step(small);
  EXPECT_EQ(r["dtype"], "bfloat16");
  if (!bfloat16_peak_kernel()) GTEST_SKIP() << "this processor has no AVX512-BF16";
  // Twice the products in each instruction; how many of them the processor does at once is its own business.
  EXPECT_GT(r["peak_gflops"].get<double>(), 1.3 * measure_peak_gflops(float32_peak_kernel()));
}

TEST(BenchStep, RecomputeRunsTheSameWork) {
  const auto run =
      run_duet("bench step --size mini --batch 1 --seq 4 --steps 1 --warmup-steps 0 --threads 1 --recompute");
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_NE(run.out.find("GFLOP/s"), std::string::npos) << run.out;
}

TEST(BenchStep, NamesWhatIsSupported) {
  const auto expect_usage = [](const std::string& arguments, const std::string& message) {
    const auto run = run_duet("bench step --steps 1 --warmup-steps 0 " + arguments);
    EXPECT_EQ(run.status, 2) << arguments;
    EXPECT_NE(run.err.find(message), std::string::npos) << run.err;
    EXPECT_EQ(run.out, "");
  };
  expect_usage("--dtype float16", "--dtype float16 is not available; use float32 or bfloat16");
  expect_usage("--size huge", "{mini,tiny,base}");
  expect_usage("--size mini --seq 65", "--seq 65: size mini takes 1 to 64 tokens");
  expect_usage("--batch 0", "--batch 0");
  const auto missing = run_duet("bench step --device cuda:63");  // no such device anywhere, or no backend
  EXPECT_EQ(missing.status, 1);
  EXPECT_NE(missing.err.find("duet: ["), std::string::npos) << missing.err;
  EXPECT_EQ(run_duet("bench").status, 2);
  EXPECT_EQ(run_duet("bench step --batch many").status, 2);
}

}  // namespace
}  // namespace duet::tools
