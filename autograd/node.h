#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "duet/autograd/variable.h"

namespace duet {

// One executed op: its inputs and how to run it backwards.
struct Node {
  const char* op = "";
  std::vector<Variable> inputs;
  MultiBackwardFunction backward;  // emptied once run, which frees the saved activations
  size_t output_count = 1;
};

struct Variable::State {
  Tensor data;
  Tensor gradient;
  bool requires_grad = false;
  std::shared_ptr<Node> node;  // null for leaves
  size_t output = 0;           // which output of the node this is
  std::vector<GradientHook> hooks;
};

// Collects the trainable leaves that ops touch on this thread while gradients are off, so that recomputation knows
// which parameters its segment depends on.
class LeafRecorder {
 public:
  LeafRecorder();
  ~LeafRecorder();
  static void touch(const std::vector<Variable>& inputs);
  const std::vector<Variable>& leaves() const { return leaves_; }

 private:
  LeafRecorder* previous_;
  std::vector<Variable> leaves_;
};

}  // namespace duet
