#pragma once

#include <functional>
#include <string>
#include <vector>

#include "duet/core/tensor.h"

namespace duet {

class Variable;
class GradientSink;
struct Engine;
struct Node;

// Receives the gradient of an op's output and adds the gradients of its inputs to the sink. Its captures are the
// activations that the op keeps alive until the backward pass.
using BackwardFunction = std::function<void(const Tensor& dy, GradientSink& sink)>;
// For ops with several outputs; an output that nothing used has an undefined gradient.
using MultiBackwardFunction = std::function<void(const std::vector<Tensor>& dys, GradientSink& sink)>;
// Runs when a leaf's gradient is final for this backward pass; may read and change leaf.gradient().
using GradientHook = std::function<void(Variable& leaf)>;

// A tensor that remembers how it was computed. Leaves with requires_grad (parameters) collect gradients.
// Copying a Variable copies the handle.
class Variable {
 public:
  Variable() = default;
  explicit Variable(Tensor data, bool requires_grad = false);

  // The output of an op. While gradients are recorded and an input needs one, the graph grows by a node.
  static Variable from_op(const char* op, Tensor y, std::vector<Variable> inputs, BackwardFunction backward);
  static std::vector<Variable> from_op(const char* op, std::vector<Tensor> ys, std::vector<Variable> inputs,
                                       MultiBackwardFunction backward);
  // The output of an op that has no backward: throws Error naming the op when an input needs a gradient.
  static Variable without_backward(const char* op, Tensor y, const std::vector<Variable>& inputs);

  bool defined() const { return state_ != nullptr; }
  const Tensor& data() const;
  const Shape& shape() const { return data().shape(); }
  int rank() const { return data().rank(); }
  int64_t dim(int axis) const { return data().dim(axis); }
  DType dtype() const { return data().dtype(); }

  bool requires_grad() const;
  void set_requires_grad(bool value);  // leaves only
  bool is_leaf() const;

  // Undefined until a backward pass reached this leaf.
  const Tensor& gradient() const;
  void set_gradient(Tensor gradient);
  void clear_gradient();
  void add_hook(GradientHook hook);  // leaves only

  // The same data as a new leaf outside the graph.
  Variable detach() const { return Variable(data()); }
  // Replaces a leaf's data, for loading and for optimizers.
  void set_data(Tensor data);

  // Identity of the underlying state, for maps and comparisons.
  const void* id() const { return state_.get(); }

 private:
  friend struct Edge;
  friend struct Engine;
  struct State;
  std::shared_ptr<State> state_;
};

inline std::ostream& operator<<(std::ostream& out, const Variable& v) {
  return v.defined() ? out << v.data() : out << "(no variable)";
}

// The one door through which gradients enter: adds, and verifies shape, dtype and device.
class GradientSink {
 public:
  // False when input i needs no gradient, so that its computation can be skipped.
  bool needs(size_t i) const;
  void add(size_t i, Tensor gradient);
  // What other uses of input i have already contributed to its gradient; undefined if there is nothing. The caller must
  // add it to its own contribution and hand the sum to add(): the pass over memory that would add the two is spared.
  // Others may hold the tensor too: only one that is unique() may be written over.
  Tensor take(size_t i);

 private:
  friend struct Engine;
  GradientSink(Engine& engine, const Node& node, std::vector<Tensor>& slots)
      : engine_(engine), node_(node), slots_(slots) {}
  Engine& engine_;
  const Node& node_;
  std::vector<Tensor>& slots_;
};

}  // namespace duet
