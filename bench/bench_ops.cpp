#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>
#include <set>

#include "duet/autograd/engine.h"
#include "duet/bench/ops/cases.h"
#include "duet/core/allocator.h"
#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"
#include "duet/core/trace.h"
#include "duet/tools/bench_peak.h"
#include "duet/train/progress.h"

// Operators beside what the machine can do, named op/dtype/shape/forward|backward/threads:N; see docs/performance.md.
// Besides Google Benchmark's options there is --list, which prints the names of the ops.
namespace duet::bench {
namespace {

// What a thread count reaches at best, in 1e9 a second.
struct Limits {
  double float32_gflops, bfloat16_gflops, copy_gb;
};
std::map<int, Limits> limits;

Limits measure_limits(int thread_count) {
  set_threads(thread_count);
  return {tools::measure_peak(DType::f32).gflops, tools::measure_peak(DType::bf16).gflops,
          tools::measure_bandwidth().copy};
}

// What a pass has to do, as the ops themselves tell a trace.
struct Work {
  double flops = 0, bytes = 0;
};
template <class F>
Work work_of(F&& pass) {
  start_trace({});
  pass();
  Work work;
  for (const TraceEvent& e : stop_trace().events) {
    work.flops += static_cast<double>(e.flops);
    work.bytes += static_cast<double>(e.bytes);
  }
  return work;
}

// of_peak and of_copy compare with one limit each, of_roofline with the time that the tighter one allows (Williams et
// al. 2009).
void report(benchmark::State& state, Work work, double seconds, DType dtype, int thread_count) {
  const Limits& limit = limits.at(thread_count);
  const double peak = dtype == DType::bf16 ? limit.bfloat16_gflops : limit.float32_gflops;
  const double gflops = 1e-9 * work.flops / seconds, gigabytes = 1e-9 * work.bytes / seconds;
  if (work.flops > 0) {
    state.counters["GFLOP/s"] = gflops;
    state.counters["of_peak"] = gflops / peak;
  }
  if (work.bytes > 0) {
    state.counters["GB/s"] = gigabytes;
    state.counters["of_copy"] = gigabytes / limit.copy_gb;
  }
  state.counters["of_roofline"] = std::max(gflops / peak, gigabytes / limit.copy_gb);
}

// The inputs of the case that was called last: a case runs many times, in several ways, one after the other.
const Call& call_of(const Case& c, DType dtype) {
  static const Case* last = nullptr;
  static DType last_dtype{};
  static Call call;
  if (last != &c || last_dtype != dtype) {
    call = nullptr;  // before the next ones are made
    call = c.make(dtype);
    last = &c;
    last_dtype = dtype;
  }
  return call;
}

// Memory that a call takes at most on top of its inputs.
template <class F>
void report_memory(benchmark::State& state, F&& call) {
  CachingAllocator& memory = cpu_allocator();
  const int64_t before = memory.stats().in_use_bytes;
  memory.reset_peak();
  call();
  state.counters["peak_MiB"] = static_cast<double>(memory.stats().peak_in_use_bytes - before) / (1 << 20);
}

void run_forward(benchmark::State& state, const Case& c, DType dtype, int thread_count) try {
  set_threads(thread_count);
  const Call& call = call_of(c, dtype);
  const Work work = work_of(call);  // also the first call, in which libraries make their kernels for a shape
  report_memory(state, call);
  const train::Stopwatch watch;
  for (auto _ : state) benchmark::DoNotOptimize(call().data().raw());
  report(state, work, watch.seconds() / static_cast<double>(state.iterations()), dtype, thread_count);
} catch (const Error& e) {
  state.SkipWithError(e.what());
}

// A backward pass uses its graph up, so that each needs a forward pass, which does not count.
void run_backward(benchmark::State& state, const Case& c, DType dtype, int thread_count) try {
  set_threads(thread_count);
  const Call& call = call_of(c, dtype);
  const Variable first = call();
  const Tensor seed = random(first.shape(), first.dtype()).data();
  const Work work = work_of([&] { gradients({first}, {seed}, {}); });
  const Variable measured = call();
  report_memory(state, [&] { gradients({measured}, {seed}, {}); });
  double seconds = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const Variable y = call();
    state.ResumeTiming();
    const train::Stopwatch watch;
    gradients({y}, {seed}, {});
    seconds += watch.seconds();
  }
  report(state, work, seconds / static_cast<double>(state.iterations()), dtype, thread_count);
} catch (const Error& e) {
  state.SkipWithError(e.what());
}

// Whether the CPU has kernels for a dtype at all.
bool dispatches(DType dtype) {
  try {
    dispatch(Tensor::empty({1}, dtype), [](auto, auto) {});
    return true;
  } catch (const Error&) {
    return false;
  }
}

void register_cases(const std::vector<Case>& cases, const std::vector<int>& thread_counts) {
  const bool bfloat16 = dispatches(DType::bf16);
  for (const Case& c : cases)
    for (const DType dtype : {DType::f32, DType::bf16}) {
      if (dtype == DType::bf16 && (c.float32_only || !bfloat16)) continue;
      for (const int count : thread_counts) {
        const auto add = [&](const char* pass, auto* run) {
          const std::string name = text(c.op, '/', dtype, '/', c.shape, '/', pass, "/threads:", count);
          benchmark::RegisterBenchmark(name.c_str(), [&c, run, dtype, count](benchmark::State& state) {
            run(state, c, dtype, count);
          })->Unit(benchmark::kMicrosecond);
        };
        add("forward", run_forward);
        if (!c.float32_only) add("backward", run_backward);  // the optimizer has none
      }
    }
}

}  // namespace
}  // namespace duet::bench

int main(int argc, char** argv) {
  using namespace duet;
  const std::vector<bench::Case> cases = bench::all_cases();
  if (argc > 1 && std::strcmp(argv[1], "--list") == 0) {
    std::set<std::string> ops;
    for (const bench::Case& c : cases) ops.insert(c.op);
    for (const std::string& op : ops) std::cout << op << '\n';
    return 0;
  }
  std::vector<int> thread_counts{threads()};
  if (threads() > 1) thread_counts.push_back(1);
  bench::register_cases(cases, thread_counts);
  // Shorter than the library's half second, for so many cases; a later --benchmark_min_time overrides it.
  std::vector<char*> arguments(argv, argv + argc);
  char min_time[] = "--benchmark_min_time=0.1";
  arguments.insert(arguments.begin() + 1, min_time);
  int count = argc + 1;
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  const auto listing = [](const char* argument) { return std::string_view(argument).starts_with("--benchmark_list"); };
  if (std::none_of(argv + 1, argv + argc, listing))
    for (const int n : thread_counts) {
      const bench::Limits& l = bench::limits[n] = bench::measure_limits(n);
      const auto context = [&](const char* name, double value) {
        benchmark::AddCustomContext(text(name, "/threads:", n), std::to_string(value));
      };
      context("float32_peak_gflops", l.float32_gflops);
      context("bfloat16_peak_gflops", l.bfloat16_gflops);
      context("copy_gb_per_second", l.copy_gb);
    }
  benchmark::RunSpecifiedBenchmarks();
}
