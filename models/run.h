#pragma once

#include "duet/core/philox.h"

namespace duet::models {

// How a forward pass runs. Training mode and randomness are arguments, never globals.
struct Run {
  bool training = false;
  RandomKey random;        // of this step; every dropout site derives its own stream
  bool recompute = false;  // keep only each layer's input and compute its activations again in the backward pass

  Run child(uint64_t tag) const { return {training, random.child(tag), recompute}; }
  double dropout(double p) const { return training ? p : 0.0; }
};

}  // namespace duet::models
