#pragma once

#include <functional>
#include <vector>

#include "duet/autograd/variable.h"

namespace duet {

// Activation checkpointing: runs `segment` on `inputs` keeping only the inputs, and runs it again during the backward
// pass to get its activations back (Chen et al. 2016, "Training deep nets with sublinear memory cost"). The segment
// must be a pure function: randomness through RandomKey arguments repeats by itself.
Variable recompute(const std::function<Variable(const std::vector<Variable>&)>& segment,
                   const std::vector<Variable>& inputs);

// Whether this thread is in the backward pass of such a segment: of all that is made there only the gradients stay.
bool recomputing();

}  // namespace duet
