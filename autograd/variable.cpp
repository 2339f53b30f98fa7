#include "duet/autograd/variable.h"

#include <algorithm>

#include "duet/autograd/grad_mode.h"
#include "duet/autograd/node.h"
#include "duet/core/trace.h"

namespace duet {
namespace {

thread_local UseRecorder* recorder = nullptr;

bool any_requires_grad(const std::vector<Variable>& inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const Variable& v) { return v.defined() && v.requires_grad(); });
}

std::vector<Tensor> data_of(const std::vector<Variable>& variables) {
  std::vector<Tensor> tensors;
  for (const Variable& v : variables) tensors.push_back(v.defined() ? v.data() : Tensor());
  return tensors;
}

}  // namespace

UseRecorder::UseRecorder() : previous_(recorder) {
  recorder = this;
}
UseRecorder::~UseRecorder() {
  recorder = previous_;
}

void UseRecorder::touch(const std::vector<Variable>& inputs) {
  for (UseRecorder* r = recorder; r != nullptr; r = r->previous_)
    for (const Variable& v : inputs) {
      if (!v.defined() || !v.requires_grad()) continue;
      const auto same = [&](const Variable& seen) { return seen.id() == v.id(); };
      if (std::none_of(r->touched_.begin(), r->touched_.end(), same)) r->touched_.push_back(v);
    }
}

// A graph is as deep as the model is long: nodes that only this one keeps alive are taken apart in a loop, because
// their destructors calling each other would overflow the stack.
Node::~Node() {
  std::vector<std::shared_ptr<Node>> doomed;
  const auto take_apart = [&](Node& node) {
    node.backward = nullptr;  // its captures may hold the inputs as well
    for (Edge& input : node.inputs)
      if (input.node) doomed.push_back(std::move(input.node));
    node.inputs.clear();
  };
  take_apart(*this);
  while (!doomed.empty()) {
    const std::shared_ptr<Node> node = std::move(doomed.back());
    doomed.pop_back();
    if (node.use_count() == 1) take_apart(*node);
  }
}

Edge::Edge(const Variable& input) {
  if (!input.requires_grad()) return;
  if (input.is_leaf())
    leaf = input.state_;
  else
    node = input.state_->node;
  output = input.state_->output;
  shape = input.shape();
  dtype = input.dtype();
  device = input.data().device();
}

bool Edge::fits(const Tensor& gradient) const {
  return gradient.defined() && gradient.shape() == shape && gradient.dtype() == dtype && gradient.device() == device;
}

Variable::Variable(Tensor data, bool requires_grad) : state_(std::make_shared<State>()) {
  check(data.defined(), "variable", "made from no tensor");
  check(!requires_grad || is_floating(data.dtype()), "variable", "only floating tensors have gradients, got ", data);
  state_->data = std::move(data);
  state_->requires_grad = requires_grad;
}

std::vector<Variable> Variable::from_op(const char* op, std::vector<Tensor> ys, std::vector<Variable> inputs,
                                        MultiBackwardFunction backward) {
  if (tracing()) trace_operands(op, data_of(inputs), ys);
  std::vector<Variable> results;
  for (Tensor& y : ys) results.emplace_back(std::move(y));
  if (!grad_enabled()) {
    UseRecorder::touch(inputs);
    return results;
  }
  if (!any_requires_grad(inputs)) return results;
  auto node = std::make_shared<Node>();
  node->op = op;
  node->inputs.reserve(inputs.size());
  for (const Variable& input : inputs) node->inputs.emplace_back(input);
  node->backward = std::move(backward);
  node->output_count = results.size();
  for (size_t i = 0; i < results.size(); ++i) {
    results[i].state_->requires_grad = true;
    results[i].state_->node = node;
    results[i].state_->output = i;
  }
  return results;
}

Variable Variable::from_op(const char* op, Tensor y, std::vector<Variable> inputs, BackwardFunction backward) {
  return from_op(op, std::vector<Tensor>{std::move(y)}, std::move(inputs),
                 [f = std::move(backward)](const std::vector<Tensor>& dys, GradientSink& sink) { f(dys[0], sink); })[0];
}

Variable Variable::without_backward(const char* op, Tensor y, const std::vector<Variable>& inputs) {
  check(!grad_enabled() || !any_requires_grad(inputs), op,
        "has no backward, but an input needs a gradient; detach() it or use NoGrad");
  return Variable(std::move(y));
}

const Tensor& Variable::data() const {
  check(defined(), "variable", "used before it was given a value");
  return state_->data;
}

bool Variable::requires_grad() const {
  return state_ && state_->requires_grad;
}
bool Variable::is_leaf() const {
  return state_ && !state_->node;
}

void Variable::set_requires_grad(bool value) {
  check(is_leaf(), "variable", "only a leaf can change requires_grad");
  check(!value || is_floating(dtype()), "variable", "only floating tensors have gradients, got ", data());
  state_->requires_grad = value;
}

const Tensor& Variable::gradient() const {
  check(defined(), "variable", "used before it was given a value");
  return state_->gradient;
}

void Variable::set_gradient(Tensor gradient) {
  check(gradient.defined() && gradient.shape() == shape() && gradient.dtype() == dtype(), "variable", "gradient ",
        gradient, " for ", data());
  state_->gradient = std::move(gradient);
}

void Variable::clear_gradient() {
  state_->gradient = Tensor();
}
void Variable::add_hook(GradientHook hook) {
  check(is_leaf(), "variable", "only leaves have hooks, nothing else keeps its gradient");
  state_->hooks.push_back(std::move(hook));
}

void Variable::set_data(Tensor data) {
  check(is_leaf() && data.shape() == shape() && data.dtype() == dtype(), "variable", "cannot replace ", state_->data,
        " by ", data);
  state_->data = std::move(data);
}

}  // namespace duet
