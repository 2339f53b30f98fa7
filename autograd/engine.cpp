#include "duet/autograd/engine.h"

#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "duet/autograd/accumulate.h"
#include "duet/autograd/grad_mode.h"
#include "duet/autograd/node.h"
#include "duet/core/trace.h"

namespace duet {

bool GradientSink::needs(size_t i) const {
  return node_.inputs.at(i).needed();
}

void GradientSink::add(size_t i, Tensor gradient) {
  if (!needs(i)) return;
  const Edge& input = node_.inputs[i];
  check(input.fits(gradient), node_.op, "backward produced ", gradient, " for input ", i, " which is ", input.shape,
        ' ', input.dtype, " on ", input.device);
  accumulate(slots_[i], std::move(gradient));
}

// One backward pass. Nodes run once all gradients of their outputs have arrived (reverse topological order).
struct Engine {
  struct Pending {
    std::vector<Tensor> output_gradients;
    int waiting = 0;  // consumers that have not contributed yet
  };
  struct Leaf {
    Tensor gradient;
    int waiting = 0;
  };

  // A node that has not run is kept alive by the root or by a consumer's inputs, and by `ready` once it is its turn.
  std::unordered_map<Node*, Pending> pending;
  std::unordered_map<const void*, Leaf> leaves;
  std::vector<std::shared_ptr<Node>> ready;
  bool into_leaves = true;

  // Counts, for every node and leaf reachable from the roots, how many uses will contribute.
  void count(const std::vector<Variable>& roots) {
    std::vector<Node*> stack;
    const auto visit = [&](const Edge& edge) {
      if (edge.leaf) ++leaves[edge.leaf.get()].waiting;
      Node* node = edge.node.get();
      if (node == nullptr) return;
      const bool first = pending.find(node) == pending.end();
      Pending& p = pending[node];
      ++p.waiting;
      if (!first) return;
      check(static_cast<bool>(node->backward), node->op,
            "this part of the graph was already freed by an earlier backward pass");
      p.output_gradients.resize(node->output_count);
      stack.push_back(node);
    };
    for (const Variable& root : roots) visit(Edge(root));
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      for (const Edge& input : node->inputs) visit(input);
    }
  }

  // The gradient that has gathered where the edge leads to.
  Tensor& gathered(const Edge& edge) {
    if (edge.leaf) return leaves.at(edge.leaf.get()).gradient;
    return pending.at(edge.node.get()).output_gradients[edge.output];
  }

  // One consumer of what the edge leads to has delivered its contribution (possibly none).
  void deliver(const Edge& edge, Tensor gradient) {
    if (edge.leaf) {
      Leaf& leaf = leaves.at(edge.leaf.get());
      if (gradient.defined()) accumulate(leaf.gradient, std::move(gradient));
      if (--leaf.waiting == 0 && into_leaves) finish(edge.leaf, leaf);
    }
    if (!edge.node) return;
    Pending& p = pending.at(edge.node.get());
    if (gradient.defined()) accumulate(p.output_gradients[edge.output], std::move(gradient));
    if (--p.waiting == 0) ready.push_back(edge.node);
  }

  static void finish(const std::shared_ptr<Variable::State>& state, Leaf& leaf) {
    if (!leaf.gradient.defined()) return;
    // A leaf owns its gradient: whoever changes it in place must not change another's.
    if (!leaf.gradient.unique()) leaf.gradient = leaf.gradient.clone();
    accumulate(state->gradient, std::move(leaf.gradient));
    Variable handle;
    handle.state_ = state;
    for (const GradientHook& hook : state->hooks) hook(handle);
  }

  void run(const std::vector<Variable>& roots, const std::vector<Tensor>& seeds) {
    const NoGrad no_grad;
    count(roots);
    for (size_t i = 0; i < roots.size(); ++i) deliver(Edge(roots[i]), seeds[i]);
    while (!ready.empty()) {
      const std::shared_ptr<Node> node = std::move(ready.back());
      ready.pop_back();
      Pending p = std::move(pending.at(node.get()));
      bool reached = false;
      for (const Tensor& g : p.output_gradients) reached |= g.defined();
      std::vector<Tensor> slots(node->inputs.size());
      if (reached) {
        GradientSink sink(*this, *node, slots);
        const OpScope scope(node->op, ScopeKind::backward);
        node->backward(p.output_gradients, sink);
        if (tracing()) trace_operands(node->op, p.output_gradients, slots);
      }
      node->backward = nullptr;
      p.output_gradients.clear();
      const std::vector<Edge> inputs = std::move(node->inputs);
      node->inputs.clear();
      // Backwards, as the first to be ready comes last: branches are then gone through from an op's first input on.
      for (size_t i = inputs.size(); i-- > 0;) deliver(inputs[i], std::move(slots[i]));
    }
  }
};

Tensor GradientSink::take(size_t i) {
  // Whoever else holds it: who does may change with recomputation, and with it the rounding of the sum.
  return needs(i) ? std::exchange(engine_.gathered(node_.inputs[i]), {}) : Tensor();
}

void backward(const Variable& root, const Tensor& seed) {
  check(root.defined() && root.requires_grad(), "backward", "the root does not depend on any trainable leaf");
  check(seed.defined() || root.data().numel() == 1, "backward", "the root must have one element, it is ", root);
  Tensor start = seed;
  if (!start.defined()) {
    start = empty_like(root.data());
    start.fill(1);
  }
  check(start.shape() == root.shape() && start.dtype() == root.dtype(), "backward", "seed ", start, " for ", root);
  Engine engine;
  engine.run({root}, {start});
}

std::vector<Tensor> gradients(const std::vector<Variable>& roots, const std::vector<Tensor>& seeds,
                              const std::vector<Variable>& targets) {
  check(roots.size() == seeds.size(), "gradients", roots.size(), " roots but ", seeds.size(), " seeds");
  for (size_t i = 0; i < roots.size(); ++i)
    check(roots[i].defined() && seeds[i].defined() && seeds[i].shape() == roots[i].shape() &&
              seeds[i].dtype() == roots[i].dtype(),
          "gradients", "seed ", seeds[i], " for root ", roots[i]);
  for (const Variable& target : targets) check(target.is_leaf(), "gradients", "targets must be leaves");
  Engine engine;
  engine.into_leaves = false;
  engine.run(roots, seeds);
  std::vector<Tensor> results;
  for (const Variable& target : targets) {
    const auto it = engine.leaves.find(target.id());
    results.push_back(it == engine.leaves.end() ? Tensor() : it->second.gradient);
  }
  return results;
}

}  // namespace duet
