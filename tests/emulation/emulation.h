// What tests may ask of the emulated devices.
//
// DUET_EMULATED_DEVICES      number of devices (default 2)
// DUET_EMULATED_MEMORY_MIB   memory of each (default 8192)
// DUET_EMULATED_DEFER=1      runs work as late as allowed, when something waits for it, instead of at once
// DUET_EMULATED_CUDNN=1      emulates cuDNN's graphs too; otherwise cuDNN says that it supports nothing
// DUET_EMULATED_NO_EPILOGUES=1  cuBLASLt refuses products with an epilogue, as it may for shapes it has no kernel for
// DUET_EMULATED_RANK_TIMEOUT seconds that a device waits for the other ranks of a collective (default 60)
// DUET_EMULATED_PROTECT=0    lets the host touch device memory unpunished (saves two system calls per launch)
#pragma once

#include <cstdint>
#include <string>

namespace duet::emulation {

// The first fault since the last call ("" if none): what went wrong, in which kernel, block and thread. Calling it also
// repairs the device: until then every CUDA call returns the fault's error code, as on real hardware. A fault that
// nobody takes is printed when the process ends, which then exits with status 1.
std::string take_error();

// Whether a host access to device memory ends the process with a message.
void set_host_protection(bool on);

// Whether streams run their work only when something waits for it. Then a program that reads a result too early, or
// overwrites the source of a copy, gets wrong numbers, and faults appear at the wait.
void set_deferred(bool on);

// How long the host waits for ranks that do not come, before that is a fault.
void set_rank_timeout(double seconds);
double rank_timeout();

struct Statistics {
  uint64_t launches = 0, threads = 0, operations = 0;  // operations: launches, copies, fills and matrix products
  uint64_t allocations = 0;                            // device allocations now alive
  uint64_t bytes = 0;                                  // their size
};
Statistics statistics();

}  // namespace duet::emulation
