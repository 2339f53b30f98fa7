#include "duet/tools/bench_profile.h"

#include <algorithm>
#include <iomanip>
#include <map>
#include <sstream>

namespace duet::tools {
namespace {

struct Total {
  int64_t calls = 0, nanoseconds = 0, flops = 0, bytes = 0;
};
using Key = std::pair<std::string, std::string>;

// An op and its pass. What a phase did outside ops is a row of its own.
Key key_of(const TraceEvent& e) {
  switch (e.kind) {
    case ScopeKind::forward:
      return {e.name, "forward"};
    case ScopeKind::backward:
      return {e.name, "backward"};
    case ScopeKind::update:
      return {e.name, "update"};
    case ScopeKind::data:
      return {e.name, "data"};
    case ScopeKind::phase:
      break;
  }
  return {"outside ops", e.name};
}

void sort_by_seconds(Json& rows) {
  std::stable_sort(rows.begin(), rows.end(), [](const Json& a, const Json& b) {
    return a["seconds"].get<double>() > b["seconds"].get<double>();
  });
}

}  // namespace

Json profile_ops(const Trace& trace, int64_t steps, double peak_gflops, double copy_gb_per_second) {
  std::map<Key, Total> totals;
  int64_t all = 0;
  for (const TraceEvent& e : trace.events) {
    if (e.thread != 0) continue;  // other threads work beside the steps
    const int64_t own = e.end - e.begin - e.inside;
    Total& t = totals[key_of(e)];
    t = {t.calls + 1, t.nanoseconds + own, t.flops + e.flops, t.bytes + e.bytes};
    all += own;
  }
  Json rows = Json::array();
  for (const auto& [key, t] : totals) {
    const auto time = static_cast<double>(t.nanoseconds);
    const auto rate = [&](int64_t work, double limit) {  // 1e9 a second, and the share of the limit
      const double r = static_cast<double>(work) / time;
      return work > 0 && time > 0 ? std::pair{Json(r), Json(r / limit)} : std::pair{Json(), Json()};
    };
    const auto [gflops, of_peak] = rate(t.flops, peak_gflops);
    const auto [bandwidth, of_copy] = rate(t.bytes, copy_gb_per_second);
    rows.push_back({{"op", key.first},
                    {"pass", key.second},
                    {"calls", t.calls / steps},
                    {"seconds", 1e-9 * time / static_cast<double>(steps)},
                    {"share", time / static_cast<double>(all)},
                    {"gflops", gflops},
                    {"fraction_of_peak", of_peak},
                    {"gb_per_second", bandwidth},
                    {"fraction_of_copy", of_copy}});
  }
  sort_by_seconds(rows);
  return rows;
}

std::string profile_table(const Json& ops, double untraced_step_seconds) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2);
  const auto cell = [&](const Json& value, double factor, int width) {
    out << std::setw(width);
    value.is_null() ? out << "-" : out << factor * value.get<double>();
  };
  double total = 0;
  out << "\nop                  pass         calls        ms       %   GFLOP/s  % peak      GB/s  % copy\n";
  for (const Json& r : ops) {
    out << std::left << std::setw(20) << r["op"].get<std::string>() << std::setw(11) << r["pass"].get<std::string>()
        << std::right << std::setw(7) << r["calls"].get<int64_t>();
    cell(r["seconds"], 1e3, 10);
    cell(r["share"], 100, 8);
    cell(r["gflops"], 1, 10);
    cell(r["fraction_of_peak"], 100, 8);
    cell(r["gb_per_second"], 1, 10);
    cell(r["fraction_of_copy"], 100, 8);
    out << '\n';
    total += r["seconds"].get<double>();
  }
  out << std::left << std::setw(38) << "sum" << std::right << std::setw(10) << 1e3 * total << "  of a traced step; "
      << 1e3 * untraced_step_seconds << " untraced\n";
  return out.str();
}

Json profile_kernels(const Trace& trace, int64_t steps) {
  std::map<Key, std::pair<int64_t, double>> totals;
  for (const KernelSpan& k : trace.kernels) {
    auto& [calls, seconds] = totals[{k.op, k.kernel}];
    ++calls;
    seconds += k.end - k.begin;
  }
  Json rows = Json::array();
  for (const auto& [key, total] : totals)
    rows.push_back({{"op", key.first},
                    {"kernel", key.second},
                    {"calls", total.first / steps},
                    {"seconds", total.second / static_cast<double>(steps)}});
  sort_by_seconds(rows);
  return rows;
}

std::string kernel_table(const Json& kernels) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2);
  double total = 0;
  for (const Json& k : kernels) total += k["seconds"].get<double>();
  out << "\nop                  kernel                       calls        ms       %\n";
  for (const Json& k : kernels)
    out << std::left << std::setw(20) << k["op"].get<std::string>() << std::setw(26) << k["kernel"].get<std::string>()
        << std::right << std::setw(8) << k["calls"].get<int64_t>() << std::setw(10) << 1e3 * k["seconds"].get<double>()
        << std::setw(8) << 100 * k["seconds"].get<double>() / total << '\n';
  out << std::left << std::setw(54) << "sum" << std::right << std::setw(10) << 1e3 * total << '\n';
  return out.str();
}

}  // namespace duet::tools
