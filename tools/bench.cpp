#include <iostream>

#include "duet/core/device.h"
#include "duet/core/numerics.h"
#include "duet/core/parallel.h"
#include "duet/tools/arguments.h"
#include "duet/tools/bench_peak.h"
#include "duet/tools/bench_step.h"
#include "duet/tools/commands.h"
#include "duet/tools/machine.h"
#include "duet/tools/workers_option.h"

namespace duet::tools {
namespace {

struct BenchCommand {
  StepBenchmark step;
  int threads = 0;
  std::string device = "cpu";
  bool json = false;

  void add_common(CLI::App& command) {
    command.add_option("--threads", threads, "Compute threads; 0 = one per core")
        ->capture_default_str()
        ->check(CLI::Range(0, 1024));
    command.add_option("--device", device, "cpu, cuda or cuda:INDEX")->capture_default_str();
    command.add_flag("--json", json, "Print the result as JSON");
  }
  void parse() {
    try {
      step.device = device_named(device);
    } catch (const Error& e) {
      throw UsageError(e.what());
    }
  }
  void prepare() {
    require(step.device);
    step.dtype = usable_dtype(step.device, step.dtype);
    use_threads(threads);
    std::cerr << "device    " << device_description(step.device) << '\n';
  }
  void print(const Json& result, std::string (*table)(const Json&)) const {
    std::cout << (json ? result.dump() + "\n" : table(result)) << std::flush;
    check(std::cout.good(), "bench", "cannot write to standard output");
  }
};

// 1, 2, 4, ... and the number of compute threads itself.
std::vector<int> thread_counts(int all) {
  std::vector<int> counts;
  for (int count = 1; count < all; count *= 2) counts.push_back(count);
  counts.push_back(all);
  return counts;
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure the machine's limits, or a training step against them");
  bench->require_subcommand(1);
  const auto c = std::make_shared<BenchCommand>();

  CLI::App* peak = bench->add_subcommand("peak", "Arithmetic peak and memory bandwidth by number of threads");
  c->add_common(*peak);
  peak->callback([c] {
    c->parse();
    check_usage(c->step.device.kind == DeviceKind::cpu, "bench",
                "peak measures the CPU; a step on a GPU prints its peak");
    c->prepare();
    c->print(measure_peaks(c->threads > 0 ? std::vector{c->threads} : thread_counts(threads())), peak_table);
  });

  CLI::App* step = bench->add_subcommand("step", "Training step of the image+text classifier on fixed random inputs");
  step->add_option("--size", c->step.size, "mini, tiny or base")
      ->capture_default_str()
      ->check(CLI::IsMember({"mini", "tiny", "base"}));
  step->add_option("--batch", c->step.batch, "Samples per step")->capture_default_str();
  step->add_option("--seq", c->step.seq, "Tokens per text")->capture_default_str();
  step->add_option("--dtype", c->step.dtype, "float32 or bfloat16")->capture_default_str();
  step->add_option("--steps", c->step.steps, "Measured steps")->capture_default_str();
  step->add_option("--warmup-steps", c->step.warmup_steps, "Steps before the measured ones")->capture_default_str();
  step->add_option("--width", c->step.width,
                   "Hidden size of both encoders, a multiple of 64; default: as the size has it");
  step->add_option("--dropout", c->step.dropout, "In both encoders; default: as the size has it (text 0.1)");
  CLI::Option* const data = step->add_option(
      "--data", c->step.data,
      "Data set whose training split is read, decoded and augmented for the steps; the cost of that is measured "
      "against the same batches held ready");
  step->add_option("--vocab", c->step.vocab, "Vocabulary file for the texts of --data");
  add_workers_option(*step, c->step.workers)->needs(data);
  step->add_flag("--cached", c->step.cached,
                 "With --data: images are decoded beforehand, as in every epoch of training but the first")
      ->needs(data);
  step->add_option("--padding", c->step.padding, "Share of the texts' tokens that is padding; 0 = all of full length")
      ->capture_default_str();
  step->add_flag("--packed,!--no-packed", c->step.packed, "On the CPU: leave padding out instead of computing it");
  step->add_flag("--recompute", c->step.recompute, "Recompute activations in the backward pass to save memory");
  step->add_flag("--graphs,!--no-graphs", c->step.graphs, "On a GPU: record a step and repeat it");
  step->add_flag("--deterministic,!--no-deterministic", numerics().deterministic,
                 "On a GPU: only kernels that give the same bits every time");
  step->add_flag("--tf32", numerics().tf32, "On a GPU: round the operands of float32 products to 10 bits");
  step->add_flag("--profile", c->step.profile, "Also the time and rate of every op; on a GPU the time of every kernel");
  step->add_option("--trace", c->step.trace,
                   "File to write a time line of a few more steps to, as JSON for Perfetto or chrome://tracing");
  c->add_common(*step);
  step->callback([c] {
    c->parse();
    check_step(c->step);
    c->prepare();
    c->print(measure_step(c->step), step_table);
  });
}

}  // namespace duet::tools
