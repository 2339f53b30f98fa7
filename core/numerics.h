#pragma once

namespace duet {

// Choices about numbers that hold for the whole process, as the thread count does. The CPU backend has only the first.
struct Numerics {
  bool deterministic = true;  // same seed, same bits; false allows faster kernels whose sums vary in order
  bool tf32 = false;          // float32 products keep only 10 bits of their operands' mantissas (GPU)
};
Numerics& numerics();

}  // namespace duet
