#include <benchmark/benchmark.h>
#include <unistd.h>

#include <filesystem>

#include "duet/core/allocator.h"
#include "duet/models/dual_encoder.h"
#include "duet/models/hub.h"
#include "duet/train/strategies.h"

// Loading a dual encoder of a preset size from the page cache into a new ParamStore, in bytes per second. "copies" is
// the most tensor memory held at once over the size of the weights: hardly more than 1 (the allocator rounds up) when
// they are never there twice.
namespace duet {
namespace {

void load_dual_encoder(benchmark::State& state, const std::string& size) {
  const models::DualEncoderConfig config = train::preset_size(size);
  const std::string directory =
      (std::filesystem::temp_directory_path() / ("duet_bench_load_" + std::to_string(::getpid()))).string();
  int64_t bytes = 0;
  {
    models::ParamStore store(0, DType::f32, false);
    const models::DualEncoder model({store, ""}, config);
    for (models::Parameter& p : store.parameters()) p.value.data().fill(0.01);
    models::save_model_directory(directory, store, config.to_json());
    bytes = store.count() * 4;
  }
  double copies = 0;
  for (auto _ : state) {
    state.PauseTiming();
    cpu_allocator().trim();  // a new process has no memory ready either
    cpu_allocator().reset_peak();
    const int64_t before = cpu_allocator().stats().in_use_bytes;
    state.ResumeTiming();
    models::ParamStore store(0, DType::f32, false);
    const models::DualEncoder model({store, ""}, config);
    models::load_parameters(store, directory, {.strictness = models::Strictness::exact});
    state.PauseTiming();
    const int64_t peak = cpu_allocator().stats().peak_in_use_bytes - before;
    copies = std::max(copies, static_cast<double>(peak) / static_cast<double>(bytes));
    state.ResumeTiming();
  }
  state.SetBytesProcessed(state.iterations() * bytes);
  state.counters["copies"] = copies;
  std::filesystem::remove_all(directory);
}

BENCHMARK_CAPTURE(load_dual_encoder, tiny, "tiny")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(load_dual_encoder, base, "base")->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace duet

BENCHMARK_MAIN();
