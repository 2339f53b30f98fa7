#pragma once

#include <cstddef>
#include <cstdint>

namespace duet::emulation {

// Checks an access to a __shared__ variable: unwritten contents, and races between threads of the block.
void access_shared(uintptr_t address, size_t bytes, bool write, bool atomic);

}  // namespace duet::emulation
