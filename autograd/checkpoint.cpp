#include "duet/autograd/checkpoint.h"

#include "duet/autograd/engine.h"
#include "duet/autograd/grad_mode.h"
#include "duet/autograd/node.h"

namespace duet {

Variable recompute(const std::function<Variable(const std::vector<Variable>&)>& segment,
                   const std::vector<Variable>& inputs) {
  if (!grad_enabled()) return segment(inputs);
  // The parameters that the segment uses become inputs of the node: their gradients then flow through the one door
  // and their hooks fire when they are final, as without recomputation.
  std::vector<Variable> all = inputs;
  Tensor y;
  {
    const NoGrad no_grad;
    const LeafRecorder recorder;
    y = segment(inputs).data();
    for (const Variable& leaf : recorder.leaves()) {
      bool is_input = false;
      for (const Variable& input : inputs) is_input |= input.id() == leaf.id();
      if (!is_input) all.push_back(leaf);
    }
  }
  const size_t count = inputs.size();
  return Variable::from_op("recompute", y, all, [segment, all, count](const Tensor& dy, GradientSink& sink) {
    std::vector<Variable> fresh, targets;
    for (size_t i = 0; i < all.size(); ++i) {
      if (i < count) {
        fresh.emplace_back(all[i].data(), all[i].requires_grad());
        targets.push_back(fresh.back());
      } else {
        targets.push_back(all[i]);
      }
    }
    Variable again;
    {
      const EnableGrad record;
      again = segment(fresh);
    }
    const std::vector<Tensor> results = gradients({again}, {dy}, targets);
    for (size_t i = 0; i < results.size(); ++i)
      if (results[i].defined()) sink.add(i, results[i]);
  });
}

}  // namespace duet
