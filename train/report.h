#pragma once

#include <string>

#include "duet/core/json.h"

namespace duet::train {

// Turns the cells of `duet compare` into its report: everything in `head`, then
//   cells               as given
//   summary_fraction    the label fraction that summary and comparison speak of: 1, or else the largest one run
//   summary             {method: {mean, sd, n}} of test accuracy there; sd is null for a single seed
//   comparison          {difference, low, high, recommendation, ...}: whole minus component, paired by seed, with the
//                       95 % interval of Student's t; low and high are null for one seed, all three when a strategy is
//                       missing. Also: headline, winner ("whole", "component" or null), n, confidence, cautions [text]
//   fractions           [{fraction, methods: {method: {mean, sd, n, macro_f1}}, comparison: {difference, low, high,
//   n}}]
//                       in ascending order
//   gains               [{method, baseline, difference, low, high, n}]: each strategy minus each baseline, paired
//   costs               {method: {samples_seen, flops, seconds, peak_rss_bytes, stages: [...]}}, means over the seeds
// Cells whose accuracy is not a finite number (a diverged run) stay in cells and count nowhere.
Json summarise(const Json& cells, const Json& head);

// The report as a table for a terminal, up to 96 columns wide, ending in a line break.
std::string comparison_table(const Json& report);

// One self-contained page: no scripts, no network. Written atomically.
std::string report_html(const Json& report);
void write_report_html(const Json& report, const std::string& path);

}  // namespace duet::train
