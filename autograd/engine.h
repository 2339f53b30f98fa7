#pragma once

#include <vector>

#include "duet/autograd/variable.h"

namespace duet {

// Propagates d(root)/d(.) to every trainable leaf and adds it to the leaf's gradient. `root` must have one element
// unless `seed`, the gradient of root, is given. A leaf's hooks run as soon as its gradient is complete, so that
// reductions can overlap the rest of the pass. The graph is freed on the way; a second pass over it is an Error.
void backward(const Variable& root, const Tensor& seed = {});

// Gradients of several roots (with their seeds) with respect to `targets`, returned instead of added to the leaves.
// A target that the roots do not depend on yields an undefined tensor.
std::vector<Tensor> gradients(const std::vector<Variable>& roots, const std::vector<Tensor>& seeds,
                              const std::vector<Variable>& targets);

}  // namespace duet
