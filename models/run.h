#pragma once

#include "duet/core/philox.h"
#include "duet/ops/cast.h"

namespace duet::models {

// How a forward pass runs. Training mode and randomness are arguments, never globals.
struct Run {
  bool training = false;
  RandomKey random;        // of this step; every dropout site derives its own stream
  bool recompute = false;  // keep only each layer's input and compute its activations again in the backward pass
  bool bfloat16 = false;   // activations and matrix products in bfloat16; parameters, statistics and loss stay float32
  bool packed = true;      // on the CPU: padding of texts is left out (see Packing), which changes no result

  Run child(uint64_t tag) const { return {training, random.child(tag), recompute, bfloat16, packed}; }
  double dropout(double p) const { return training ? p : 0.0; }
  // In the dtype of activations.
  Variable activation(const Variable& x) const { return bfloat16 ? ops::cast(x, DType::bf16) : x; }
};

// A model's result in the dtype of its parameters: losses and similarities are computed there.
inline Variable widen(const Variable& x) {
  return x.dtype() == DType::bf16 ? ops::cast(x, DType::f32) : x;
}

}  // namespace duet::models
