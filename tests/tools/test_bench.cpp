#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <thread>

#include "duet/core/parallel.h"
#include "duet/tests/tools/run_duet.h"
#include "duet/tools/arguments.h"
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
  for (const char* key : {"float32_gflops", "float32_sustained_gflops", "copy_gb_per_second", "triad_gb_per_second"})
    EXPECT_GT(r[key].get<double>(), 0.01) << key;
  EXPECT_EQ(r["bfloat16_gflops"].is_null(), !bfloat16_peak_kernel());
  EXPECT_NE(peak_table(peaks).find(std::string(float32_peak_kernel().name)), std::string::npos);
}

TEST(BenchStep, ReportsExactlyTheContractsKeys) {
  const Json r = measure_step({.size = "mini", .batch = 2, .seq = 8, .steps = 3, .warmup_steps = 2});
  std::vector<std::string> keys;
  for (const auto& [key, value] : r.items()) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"size",
                                            "dtype",
                                            "batch",
                                            "seq",
                                            "threads",
                                            "step_seconds",
                                            "data_seconds",
                                            "forward_seconds",
                                            "backward_seconds",
                                            "clip_seconds",
                                            "optimizer_seconds",
                                            "samples_per_second",
                                            "gflop_per_step",
                                            "gflop_of_all_tokens",
                                            "gflops",
                                            "peak_gflops",
                                            "fraction_of_peak",
                                            "peak_rss_bytes",
                                            "allocations_per_step",
                                            "sustained_gflops",
                                            "fraction_of_sustained"}));
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
  EXPECT_GT(r["sustained_gflops"].get<double>(), 0);
  EXPECT_LE(r["sustained_gflops"].get<double>(), r["peak_gflops"].get<double>());
  EXPECT_DOUBLE_EQ(r["fraction_of_sustained"], r["gflops"].get<double>() / r["sustained_gflops"].get<double>());
  EXPECT_GT(r["peak_rss_bytes"].get<int64_t>(), 10 << 20);
}

TEST(BenchStep, RefusesImpossibleWidthsAndHalfADataSet) {
  EXPECT_THROW(check_step({.size = "mini", .seq = 8, .width = 100}), UsageError);
  EXPECT_THROW(check_step({.size = "mini", .seq = 8, .data = "somewhere"}), UsageError);
  EXPECT_NO_THROW(check_step({.size = "mini", .seq = 8, .width = 128}));
}

// By hand: mini has a ViT of 3 layers, width 96, 65 tokens of 8x8x3 pixels, and a BERT of 2 layers, width 128. A layer
// multiplies (T, D) by 12 D^2 weights and does 2 T^2 D multiply-adds of attention; the last ones multiply all tokens
// but the first by 3 D^2 only.
TEST(BenchStep, CountsMatmulFlops) {
  const auto layer = [](double t, double d) { return 2 * (12 * t * d * d + 2 * t * t * d); };
  const auto left_out = [](double t, double d) { return 2 * (t - 1) * (10 * d * d + 2 * t * d); };
  const double forward =
      3 * layer(65, 96) + 2 * 64 * 192 * 96 + 2 * layer(8, 128) - left_out(65, 96) - left_out(8, 128);
  const Json r = measure_step({.size = "mini", .batch = 2, .seq = 8, .steps = 1, .warmup_steps = 0});
  EXPECT_NEAR(r["gflop_per_step"].get<double>() / (2 * 3 * forward * 1e-9), 1, 0.005);
  const double all = forward + left_out(65, 96) + left_out(8, 128);
  EXPECT_NEAR(r["gflop_of_all_tokens"].get<double>() / (2 * 3 * all * 1e-9), 1, 1e-9);
}

// A quarter of the tokens is padding, and only the rest is counted.
TEST(BenchStep, LeavesOutPadding) {
  const StepBenchmark b{.size = "mini", .batch = 8, .seq = 16, .steps = 1, .warmup_steps = 0, .padding = 0.25};
  StepBenchmark whole = b;
  whole.packed = false;
  const Json packed = measure_step(b), padded = measure_step(whole);
  for (const Json& r : {packed, padded}) EXPECT_EQ(r["padding"], 0.25);
  EXPECT_EQ(packed["packed"], true);
  EXPECT_EQ(padded["packed"], false);
  EXPECT_NE(step_table(packed).find("% padding left out"), std::string::npos);
  EXPECT_NE(step_table(padded).find("% padding computed"), std::string::npos);
  const auto layer = [](double t, double d) { return 2 * (12 * t * d * d + 2 * t * t * d); };
  // Of two layers of width 128, the last of which has for a token but the first keys and values only. Lengths go from
  // half of 16 to all of it.
  double left_out = 0;
  for (int i = 0; i < 8; ++i) {
    const double length = std::llrint(8.5 + i);
    const auto last = [](double t) { return 2 * (t * 2 + 10) * 128 * 128 + 4 * t * 128; };
    left_out += layer(16, 128) - layer(length, 128) + last(16) - last(length);
  }
  EXPECT_NEAR(padded["gflop_per_step"].get<double>() - packed["gflop_per_step"].get<double>(), 3 * left_out * 1e-9,
              1e-9);
  for (const double padding : {-0.1, 1.0}) {
    StepBenchmark wrong = b;
    wrong.padding = padding;
    EXPECT_THROW(check_step(wrong), UsageError);
  }
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(BenchStep, AllocatesNothingAfterTheWarmUp) {
  // Long enough that each thread has had work even where other programs keep the cores busy.
  const Json r = measure_step({.size = "mini", .batch = 2, .seq = 8, .steps = 2, .warmup_steps = 8});
  EXPECT_EQ(r["allocations_per_step"], 0);
}
#endif

// A trace's complete events by their thread, in the order of their beginnings, the longer first.
std::map<int, std::vector<Json>> complete_events(const Json& trace) {
  std::map<int, std::vector<Json>> threads;
  for (const Json& e : trace.at("traceEvents"))
    if (e.at("ph") == "X") threads[e.at("tid").get<int>()].push_back(e);
  for (auto& [thread, events] : threads)
    std::sort(events.begin(), events.end(), [](const Json& a, const Json& b) {
      const double x = a["ts"], y = b["ts"];
      return x != y ? x < y : a["dur"].get<double>() > b["dur"].get<double>();
    });
  return threads;
}

double ending(const Json& event) {
  return event["ts"].get<double>() + event["dur"].get<double>();
}

TEST(BenchStep, TracesNestedPhasesAndOps) {
  const TemporaryDirectory directory;
  const std::string path = directory / "trace.json";
  const Json result =
      measure_step({.size = "mini", .batch = 2, .seq = 8, .steps = 1, .warmup_steps = 1, .trace = path});
  EXPECT_FALSE(result.contains("ops"));
  const Json trace = read_json(path);
  const auto threads = complete_events(trace);
  ASSERT_EQ(threads.size(), 1u);
  std::vector<Json> open;
  std::map<std::string, int> phases;
  int ops = 0;
  for (const Json& e : threads.begin()->second) {
    while (!open.empty() && ending(open.back()) <= e["ts"].get<double>()) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(ending(e), ending(open.back()) + 5e-4) << e << " in " << open.back();
    }
    open.push_back(e);
    if (e["cat"] == "phase") {
      ++phases[e["name"]];
      EXPECT_EQ(open.size(), e["name"] == "step" ? 1u : 2u) << e;
      continue;
    }
    // step > phase > op, each in its own.
    ASSERT_GE(open.size(), 3u) << e;
    ++ops;
    if (e["cat"] == "update")
      EXPECT_EQ(open[1]["name"], e["name"] == "adam" ? "optimizer" : "clip");
    else
      EXPECT_EQ(open[1]["name"], e["cat"]);
    if (e["name"] == "linear" && e["cat"] == "forward") {
      EXPECT_EQ(e["args"]["inputs"].size(), 3u);
      EXPECT_EQ(e["args"]["dtype"], "float32");
      EXPECT_GT(e["args"]["flops"], 0);
      EXPECT_GT(e["args"]["bytes"], 0);
    }
  }
  const int steps = phases["step"];
  EXPECT_GT(steps, 0);
  EXPECT_EQ(phases,
            (std::map<std::string, int>{
                {"step", steps}, {"forward", steps}, {"backward", steps}, {"clip", steps}, {"optimizer", steps}}));
  EXPECT_GT(ops, 100 * steps);
  int counters = 0, names = 0;
  for (const Json& e : trace["traceEvents"]) {
    counters += e["ph"] == "C";
    names += e["ph"] == "M";
    EXPECT_TRUE(e["ph"] != "C" || e["args"]["bytes"] > 0) << e;
  }
  EXPECT_GT(counters, ops);
  EXPECT_EQ(names, 2);
}

// The sum over a step's events is the step's count, but for the gradient of the images, which nothing needs, and for
// pooler and head.
TEST(BenchStep, TracedFlopsAreTheSteps) {
  const TemporaryDirectory directory;
  const std::string path = directory / "trace.json";
  const Json result =
      measure_step({.size = "tiny", .batch = 2, .seq = 16, .steps = 1, .warmup_steps = 0, .trace = path});
  double flops = 0;
  int steps = 0;
  const Json trace = read_json(path);
  for (const Json& e : trace["traceEvents"]) {
    steps += e["name"] == "step";
    if (e.contains("args")) flops += e["args"].value("flops", 0.0);
  }
  ASSERT_GT(steps, 0);
  EXPECT_NEAR(flops * 1e-9 / steps / result["gflop_per_step"].get<double>(), 1, 0.01);
}

TEST(BenchStep, ProfilesOps) {
  const Json r = measure_step({.size = "mini", .batch = 2, .seq = 8, .steps = 1, .warmup_steps = 1, .profile = true});
  EXPECT_GT(r["copy_gb_per_second"].get<double>(), 0.01);
  double share = 0, flop = 0;
  std::set<std::string> passes;
  for (const Json& row : r["ops"]) {
    share += row["share"].get<double>();
    passes.insert(row["op"].get<std::string>() + " " + row["pass"].get<std::string>());
    if (row["gflops"].is_null()) continue;
    flop += row["gflops"].get<double>() * row["seconds"].get<double>();
    EXPECT_DOUBLE_EQ(row["fraction_of_peak"], row["gflops"].get<double>() / r["peak_gflops"].get<double>());
    EXPECT_DOUBLE_EQ(row["fraction_of_copy"],
                     row["gb_per_second"].get<double>() / r["copy_gb_per_second"].get<double>());
  }
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_NEAR(flop / r["gflop_per_step"].get<double>(), 1, 0.02);
  for (const char* pass : {"linear forward", "linear backward", "attention backward", "adam update",
                           "gradient_norm update", "outside ops backward"})
    EXPECT_TRUE(passes.contains(pass)) << pass;
  EXPECT_FALSE(passes.contains("accumulate backward"));  // whichever op makes the last of several gradients adds them
  const std::string table = step_table(r);
  EXPECT_NE(table.find("% peak"), std::string::npos) << table;
  EXPECT_NE(table.find("layer_norm"), std::string::npos) << table;
}

TEST(BenchStep, RefusesATraceFileBeforeItMeasures) {
  const auto run = run_duet("bench step --size mini --batch 1 --seq 4 --steps 1 --trace /nowhere/trace.json");
  EXPECT_EQ(run.status, 1);
  EXPECT_NE(run.err.find("cannot write /nowhere/trace.json: No such file or directory"), std::string::npos) << run.err;
  EXPECT_EQ(run.out, "");
}

TEST(BenchStep, CommandPrintsJsonAloneOnStandardOutput) {
  const auto run = run_duet("bench step --size mini --batch 1 --seq 4 --steps 1 --warmup-steps 0 --threads 1 --json");
  ASSERT_EQ(run.status, 0) << run.err;
  const Json r = parse_json(run.out, "standard output");
  EXPECT_EQ(r["threads"], 1);
  EXPECT_EQ(r["dtype"], "float32");
  EXPECT_NE(run.err.find("device    cpu"), std::string::npos) << run.err;
}

// With that of the instructions that multiply it faster: its own on AMD's processors, float's on Intel's.
TEST(BenchStep, Bfloat16IsComparedWithTheHigherPeak) {
  const StepBenchmark small{.size = "mini", .dtype = "bfloat16", .batch = 2, .seq = 8, .steps = 1, .warmup_steps = 1};
  // One of the two peaks is about twice the other. Another program may take a core from one of the measurements, but
  // hardly from five of them.
  double best = 0;
  for (int attempt = 0; attempt < 5 && best < 0.8; ++attempt) {
    const Json r = measure_step(small);
    EXPECT_EQ(r["dtype"], "bfloat16");
    if (!bfloat16_peak_kernel()) GTEST_SKIP() << "this processor has no AVX512-BF16";
    const double float32 = measure_peak_gflops(float32_peak_kernel()),
                 bfloat16 = measure_peak_gflops(*bfloat16_peak_kernel());
    best = std::max(best, r["peak_gflops"].get<double>() / std::max(float32, bfloat16));
  }
  EXPECT_GT(best, 0.8);
}

TEST(BenchStep, MoreThreadsThanCoresGetAWarning) {
  const unsigned cores = std::thread::hardware_concurrency();
  const auto stderr_with = [](unsigned threads) {
    return run_duet("bench step --size mini --batch 1 --seq 4 --steps 1 --warmup-steps 0 --threads " +
                    std::to_string(threads))
        .err;
  };
  EXPECT_NE(stderr_with(cores + 1).find("warning: --threads " + std::to_string(cores + 1)), std::string::npos);
  EXPECT_EQ(stderr_with(cores).find("warning"), std::string::npos);
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
  expect_usage("--batch 0", "--batch 0 must be positive");
  expect_usage("--dropout=-0.1", "--dropout must be at least 0 and below 1, got -0.1");
  expect_usage("--cached", "--cached requires --data");
  expect_usage("--workers 3", "--workers requires --data");
  expect_usage("--data d --vocab v --padding 0.5", "--padding is for random texts");
  const auto missing = run_duet("bench step --device cuda:63");  // no such device anywhere, or no backend
  EXPECT_EQ(missing.status, 1);
  EXPECT_NE(missing.err.find("duet: ["), std::string::npos) << missing.err;
  EXPECT_EQ(run_duet("bench").status, 2);
  EXPECT_EQ(run_duet("bench step --batch many").status, 2);
}

}  // namespace
}  // namespace duet::tools
