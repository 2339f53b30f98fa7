#pragma once

#include "duet/core/json.h"
#include "duet/core/trace.h"

namespace duet::tools {

// Where the time of `steps` traced steps went, per step and the slowest first: [{"op", "pass", "calls", "seconds",
// "share", "gflops", "fraction_of_peak", "gb_per_second", "fraction_of_copy"}]. Time is an op's own, without that of
// ops inside it, so that the shares add up to one. `peak_gflops` and `copy_gb_per_second` are what the machine can do;
// rates are null where an op computes or moves nothing.
Json profile_ops(const Trace& trace, int64_t steps, double peak_gflops, double copy_gb_per_second);
std::string profile_table(const Json& ops, double untraced_step_seconds);

// The same of a device's kernels: [{"op", "kernel", "calls", "seconds"}].
Json profile_kernels(const Trace& trace, int64_t steps);
std::string kernel_table(const Json& kernels);

}  // namespace duet::tools
