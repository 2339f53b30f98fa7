#pragma once

#include <cstdint>

namespace duet {

// Most memory this process has held at once, in bytes, since it started or since reset_peak_rss (Linux VmHWM).
int64_t peak_rss_bytes();
// Starts a new peak measurement. Where the kernel refuses, the peak stays that of the whole process.
void reset_peak_rss();

}  // namespace duet
