#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "duet/autograd/variable.h"

namespace duet {

struct Node;

// Where the gradient of an op's input goes. Not the input itself: its data would live as long as the graph, while many
// backward passes need none of it, and those that do have it among their captures.
struct Edge {
  Edge() = default;
  explicit Edge(const Variable& input);

  bool needed() const { return node != nullptr || leaf != nullptr; }
  bool fits(const Tensor& gradient) const;

  std::shared_ptr<Node> node;  // computed by this node
  size_t output = 0;           // as which of its outputs
  std::shared_ptr<Variable::State> leaf;
  // What the input was like, and so what its gradient must be like.
  Shape shape;
  DType dtype = DType::f32;
  Device device;
};

// One executed op: its inputs and how to run it backwards.
struct Node {
  Node() = default;
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const char* op = "";
  std::vector<Edge> inputs;
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
