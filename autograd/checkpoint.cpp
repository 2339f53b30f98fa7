#include "duet/autograd/checkpoint.h"

#include <algorithm>

#include "duet/autograd/engine.h"
#include "duet/autograd/grad_mode.h"
#include "duet/autograd/node.h"
#include "duet/core/op_scope.h"

namespace duet {
namespace {

bool contains(const std::vector<Variable>& variables, const Variable& wanted) {
  return std::any_of(variables.begin(), variables.end(), [&](const Variable& v) { return v.id() == wanted.id(); });
}

thread_local int depth = 0;  // of segments in whose backward pass this thread is

struct Inside {
  Inside() { ++depth; }
  ~Inside() { --depth; }
};

}  // namespace

bool recomputing() {
  return depth > 0;
}

Variable recompute(const std::function<Variable(const std::vector<Variable>&)>& segment,
                   const std::vector<Variable>& inputs) {
  if (!grad_enabled()) return segment(inputs);
  const OpScope scope("recompute");
  OpScope::moves(0);  // the ops inside count
  // The parameters that the segment uses become inputs of the node: their gradients then flow through the one door
  // and their hooks fire when they are final, as without recomputation.
  std::vector<Variable> all = inputs;
  Tensor y;
  {
    const NoGrad no_grad;
    const UseRecorder recorder;
    y = segment(inputs).data();
    for (const Variable& used : recorder.touched()) {
      if (contains(inputs, used)) continue;
      check(used.is_leaf(), "recompute", "the segment uses ", used,
            ", which another op computed, without having it as an input; pass it as one");
      all.push_back(used);
    }
  }
  const size_t count = inputs.size();
  return Variable::from_op("recompute", y, all, [segment, all, count](const Tensor& dy, GradientSink& sink) {
    OpScope::moves(0);
    const Inside inside;
    // Computed inputs are replaced by leaves, so that the inner pass ends there. Leaves stay themselves: the segment
    // may also reach them by other ways than its arguments.
    std::vector<Variable> fresh, targets;
    for (const Variable& v : all) targets.push_back(v.is_leaf() ? v : Variable(v.data(), v.requires_grad()));
    fresh.assign(targets.begin(), targets.begin() + static_cast<std::ptrdiff_t>(count));
    Variable again;
    {
      const EnableGrad record;
      again = segment(fresh);
    }
    const std::vector<Tensor> results = gradients({again}, {dy}, targets);
    for (size_t i = 0; i < results.size(); ++i) {
      // A leaf that was passed twice has got its whole gradient at its first place.
      const std::vector<Variable> earlier(targets.begin(), targets.begin() + static_cast<std::ptrdiff_t>(i));
      if (results[i].defined() && !contains(earlier, targets[i])) sink.add(i, results[i]);
    }
  });
}

}  // namespace duet
