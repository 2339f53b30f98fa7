#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "duet/autograd/variable.h"

namespace duet {

// One executed op: its inputs and how to run it backwards.
struct Node {
  Node() = default;
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

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

// Collects the variables that need a gradient and that ops touch on this thread while gradients are off, so that
// recomputation knows what its segment depends on.
class UseRecorder {
 public:
  UseRecorder();
  ~UseRecorder();
  static void touch(const std::vector<Variable>& inputs);
  const std::vector<Variable>& touched() const { return touched_; }

 private:
  UseRecorder* previous_;
  std::vector<Variable> touched_;
};

}  // namespace duet
