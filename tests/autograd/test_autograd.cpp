#include <gtest/gtest.h>

#include "duet/autograd/checkpoint.h"
#include "duet/autograd/engine.h"
#include "duet/autograd/grad_mode.h"
#include "duet/autograd/gradcheck.h"
#include "duet/core/allocator.h"
#include "duet/ops/dropout.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/matmul.h"
#include "duet/ops/reduce.h"
#include "duet/ops/tanh.h"
#include "duet/tests/train/expect.h"

namespace duet {
namespace {

using train::message_of;

Variable leaf(const Shape& shape, const std::vector<double>& values) {
  return Variable(Tensor::from(shape, values), true);
}

std::vector<double> values(const Tensor& t) {
  return {t.data<double>(), t.data<double>() + t.numel()};
}

TEST(Backward, GradientsOfSharedVariablesAdd) {
  const Variable x = leaf({2}, {3, -2});
  // d/dx (x x + x) = 2 x + 1
  backward(ops::sum(ops::add(ops::multiply(x, x), x)));
  EXPECT_EQ(values(x.gradient()), (std::vector<double>{7, -3}));
}

TEST(Backward, AccumulatesOverPassesUntilCleared) {
  Variable x = leaf({2}, {1, 2});
  for (int i = 0; i < 3; ++i) backward(ops::sum(ops::scale(x, 2)));
  EXPECT_EQ(values(x.gradient()), (std::vector<double>{6, 6}));
  x.clear_gradient();
  EXPECT_FALSE(x.gradient().defined());
  backward(ops::sum(ops::scale(x, 2)));
  EXPECT_EQ(values(x.gradient()), (std::vector<double>{2, 2}));
}

TEST(Backward, TakesASeedForARootOfSeveralElements) {
  const Variable x = leaf({2}, {1, 2});
  const Variable y = ops::multiply(x, x);
  EXPECT_CONTAINS(message_of([&] { backward(y); }), "the root must have one element");
  EXPECT_CONTAINS(message_of([&] { backward(y, Tensor::zeros({3}, DType::f64)); }), "seed");
  backward(y, Tensor::from({2}, std::vector<double>{10, 1}));
  EXPECT_EQ(values(x.gradient()), (std::vector<double>{20, 4}));
}

TEST(Backward, FreesTheGraphAndRefusesASecondPass) {
  const Variable x = leaf({2}, {1, 2});
  const Variable y = ops::sum(ops::tanh(x));
  backward(y);
  EXPECT_CONTAINS(message_of([&] { backward(y); }), "already freed by an earlier backward pass");
  const Variable constant(Tensor::from({1}, std::vector<double>{1}));
  EXPECT_CONTAINS(message_of([&] { backward(ops::sum(constant)); }), "does not depend on any trainable leaf");
}

TEST(Backward, DeepGraphsNeedNoDeepStack) {
  const Variable x = leaf({1}, {1});
  Variable y = x;
  for (int i = 0; i < 200000; ++i) y = ops::scale(y, 1);
  backward(ops::sum(y));
  EXPECT_EQ(values(x.gradient()), (std::vector<double>{1}));
}

TEST(Backward, DeepGraphsCanBeDroppedWithoutABackwardPass) {
  const Variable x = leaf({1}, {1});
  Variable chain = x, doubled = x, nested = x;
  for (int i = 0; i < 100000; ++i) {
    chain = ops::scale(chain, 1);
    doubled = ops::add(doubled, doubled);
    nested = recompute([](const std::vector<Variable>& in) { return ops::scale(in[0], 1); }, {nested});
  }
  const Variable kept = ops::scale(x, 3);
  chain = doubled = nested = ops::scale(kept, 2);  // what used `kept` first is gone
  ops::scale(kept, 5);
  backward(ops::sum(kept));
  EXPECT_EQ(values(x.gradient()), (std::vector<double>{3}));
}

TEST(Backward, DataThatNoBackwardPassReadsIsFreedAtOnce) {
  const auto kept = [](const std::function<Variable(const Variable&)>& f) {
    const Variable x = leaf({1000}, std::vector<double>(1000, 1));
    const int64_t before = cpu_allocator().stats().in_use_bytes;
    const Variable y = f(x);
    return (cpu_allocator().stats().in_use_bytes - before) / 8000;  // in tensors of 1,000 doubles
  };
  EXPECT_EQ(kept([](const Variable& x) { return ops::scale(ops::scale(ops::add(x, x), 2), 3); }), 1);
  EXPECT_EQ(kept([](const Variable& x) { return ops::tanh(ops::tanh(x)); }), 2);
}

TEST(Backward, UnusedBranchesAndConstantsGetNoGradient) {
  const Variable x = leaf({1}, {2}), unused = leaf({1}, {3});
  const Variable constant(Tensor::from({1}, std::vector<double>{5}));
  (void)ops::tanh(unused);
  backward(ops::sum(ops::multiply(x, constant)));
  EXPECT_EQ(values(x.gradient()), (std::vector<double>{5}));
  EXPECT_FALSE(unused.gradient().defined());
  EXPECT_FALSE(constant.gradient().defined());
}

TEST(Hooks, RunOnceWhenTheGradientIsCompleteAndMayChangeIt) {
  Variable a = leaf({1}, {2}), b = leaf({1}, {3});
  std::vector<std::string> order;
  a.add_hook([&](Variable& v) {
    order.push_back("a");
    EXPECT_EQ(values(v.gradient()), (std::vector<double>{4}));  // both uses of a are in
    v.set_gradient(Tensor::from({1}, std::vector<double>{-1}));
  });
  b.add_hook([&](Variable&) { order.push_back("b"); });
  // b is used last in the forward pass, so its gradient is complete first.
  backward(ops::sum(ops::add(ops::add(a, ops::scale(a, 3)), b)));
  EXPECT_EQ(order, (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(values(a.gradient()), (std::vector<double>{-1}));
  EXPECT_CONTAINS(message_of([&] { ops::scale(a, 2).add_hook([](Variable&) {}); }), "only leaves have hooks");
}

// Memory rests on it: of a model's towers the one that is joined first is through before the next begins.
TEST(Backward, GoesThroughBranchesFromTheFirstInputOn) {
  std::vector<std::string> order;
  const auto noted = [&](const std::string& name, const Variable& x) {
    return Variable::from_op("noted", x.data().clone(), {x}, [&order, name](const Tensor& dy, GradientSink& sink) {
      order.push_back(name);
      sink.add(0, dy);
    });
  };
  const Variable x = leaf({1}, {2}), y = leaf({1}, {3});
  for (const bool second_first : {false, true}) {
    order.clear();
    Variable first, second;
    if (second_first) second = noted("b2", noted("b1", y));
    first = noted("a2", noted("a1", x));
    if (!second_first) second = noted("b2", noted("b1", y));
    backward(ops::sum(ops::add(first, second)));
    EXPECT_EQ(order, (std::vector<std::string>{"a2", "a1", "b2", "b1"}));
  }
}

TEST(GradMode, NothingIsRecordedInsideNoGradAndScopesNest) {
  const Variable x = leaf({1}, {2});
  {
    const NoGrad off;
    EXPECT_FALSE(grad_enabled());
    EXPECT_FALSE(ops::tanh(x).requires_grad());
    {
      const EnableGrad on;
      EXPECT_TRUE(ops::tanh(x).requires_grad());
    }
    EXPECT_FALSE(grad_enabled());
  }
  EXPECT_TRUE(ops::tanh(x).requires_grad());
  EXPECT_FALSE(ops::tanh(x.detach()).requires_grad());
}

TEST(FromOp, ChecksGradientsAtTheDoor) {
  const Variable x = leaf({2}, {1, 2});
  const auto broken = [&](Tensor wrong) {
    return Variable::from_op("broken", x.data(), {x},
                             [wrong](const Tensor&, GradientSink& sink) { sink.add(0, wrong); });
  };
  for (const Tensor& wrong : {Tensor::zeros({3}, DType::f64), Tensor::zeros({2}, DType::f32), Tensor()})
    EXPECT_CONTAINS(message_of([&] { backward(ops::sum(broken(wrong))); }), "broken");
  EXPECT_CONTAINS(message_of([&] { Variable::without_backward("one_way", x.data(), {x}); }), "one_way");
}

// y = 2 x, whose backward pass adds to what other uses of x have left, in place where it may.
struct Doubler {
  int taken = 0, in_place = 0;
  Variable operator()(const Variable& x) {
    return Variable::from_op("doubler", x.data(), {x}, [this](const Tensor& dy, GradientSink& sink) {
      Tensor dx = sink.take(0);
      taken += dx.defined() ? 1 : 0;
      EXPECT_FALSE(sink.take(0).defined());
      in_place += dx.defined() && dx.unique() ? 1 : 0;
      if (!dx.defined())
        dx = Tensor::zeros(dy.shape(), dy.dtype());
      else if (!dx.unique())
        dx = dx.clone();
      for (int64_t i = 0; i < dy.numel(); ++i) dx.data<double>()[i] += 2 * dy.at(i);
      sink.add(0, dx);
    });
  }
};

TEST(GradientSink, TakesWhatOtherUsesHaveLeft) {
  const Variable x = leaf({2}, {3, -2}), inner = ops::scale(x, 10);
  for (const Variable& input : {x, inner}) {  // a leaf's, and a computed one's
    const double factor = input.id() == x.id() ? 1 : 10;
    Doubler doubler;
    Variable handle = x;
    handle.clear_gradient();
    // Each node that runs leaves its part before the next.
    backward(ops::sum(ops::add(doubler(input), ops::add(doubler(input), doubler(input)))));
    EXPECT_EQ(doubler.taken, 2);
    EXPECT_EQ(doubler.in_place, 2);
    EXPECT_EQ(values(x.gradient()), (std::vector<double>{6 * factor, 6 * factor}));
  }
}

// y = x + 2 x: the sum's gradient goes to both as one tensor, which nobody may change.
TEST(GradientSink, TellsWhatOthersHold) {
  const Variable x = leaf({2}, {3, -2});
  Doubler doubler;
  const Variable y = ops::scale(x, 1);
  const Tensor seed = Tensor::from({2}, std::vector<double>{1, 5});
  backward(ops::add(y, doubler(y)), seed);
  EXPECT_EQ(doubler.taken, 1);
  EXPECT_EQ(doubler.in_place, 0);
  EXPECT_EQ(values(x.gradient()), (std::vector<double>{3, 15}));
  EXPECT_EQ(values(seed), (std::vector<double>{1, 5}));
}

TEST(Gradients, AreReturnedInsteadOfAdded) {
  const Variable x = leaf({1}, {3}), y = leaf({1}, {4}), z = leaf({1}, {5});
  const Variable product = ops::multiply(x, y);
  const auto g = gradients({product}, {Tensor::from({1}, std::vector<double>{2})}, {x, y, z});
  ASSERT_EQ(g.size(), 3u);
  EXPECT_EQ(values(g[0]), (std::vector<double>{8}));
  EXPECT_EQ(values(g[1]), (std::vector<double>{6}));
  EXPECT_FALSE(g[2].defined());
  EXPECT_FALSE(x.gradient().defined());
}

TEST(Gradcheck, PassesTheRightAndNamesTheWorstElementOfTheWrong) {
  const Variable x = leaf({2, 2}, {0.1, -0.4, 0.7, 1.2});
  const auto right = [](const std::vector<Variable>& in) { return ops::tanh(in[0]); };
  EXPECT_TRUE(gradcheck(right, {x}).ok);
  // Right but for element (1, 0), whose derivative is doubled.
  const auto wrong = [](const std::vector<Variable>& in) {
    return Variable::from_op("square", ops::multiply(in[0].detach(), in[0].detach()).data(), {in[0]},
                             [input = in[0].data()](const Tensor& dy, GradientSink& sink) {
                               const Tensor dx = Tensor::empty(input.shape(), DType::f64);
                               for (int i = 0; i < 4; ++i)
                                 dx.data<double>()[i] =
                                     dy.data<double>()[i] * input.data<double>()[i] * (i == 2 ? 4 : 2);
                               sink.add(0, dx);
                             });
  };
  const GradcheckResult result = gradcheck(wrong, {x});
  EXPECT_FALSE(result.ok);
  EXPECT_CONTAINS(result.worst, "input 0 element 2 at (1, 0)");
  EXPECT_GT(result.worst_error, 0.1);
  EXPECT_CONTAINS(message_of([&] {
                    gradcheck([](const std::vector<Variable>& in) { return ops::tanh(in[0]); },
                              {Variable(Tensor::zeros({1}, DType::f32), true)});
                  }),
                  "float64");
}

class Recompute : public ::testing::Test {
 protected:
  // Two matmuls with tanh and dropout between, three times over.
  static Variable network(const std::vector<Variable>& in) {
    Variable h = in[0];
    for (uint64_t i = 0; i < 3; ++i) h = ops::tanh(ops::matmul(ops::dropout(h, 0.3, RandomKey{9, i}), in[1]));
    return h;
  }
  const Variable x = leaf({4, 3}, {1, 2, 3, -1, .5, 2, 0, 1, .1, 2, -2, 1}),
                 w = leaf({3, 3}, {.1, .2, .3, -.4, .5, .6, .7, -.8, .9});
};

TEST_F(Recompute, GivesTheSameBits) {
  const Variable direct = network({x, w});
  backward(ops::sum(direct));
  const auto dx = values(x.gradient()), dw = values(w.gradient());
  Variable(x).clear_gradient();
  Variable(w).clear_gradient();
  const Variable again = recompute(network, {x, w});
  EXPECT_EQ(values(again.data()), values(direct.data()));
  backward(ops::sum(again));
  EXPECT_EQ(values(x.gradient()), dx);
  EXPECT_EQ(values(w.gradient()), dw);
}

TEST_F(Recompute, KeepsOnlyTheInputs) {
  const auto kept = [&](const auto& run) {
    const int64_t before = cpu_allocator().stats().in_use_bytes;
    const Variable y = run();
    return cpu_allocator().stats().in_use_bytes - before;
  };
  EXPECT_LT(kept([&] { return recompute(network, {x, w}); }), kept([&] { return network({x, w}); }));
}

TEST_F(Recompute, IsKnownInItsBackwardPassOnly) {
  std::vector<bool> seen;
  const auto segment = [&](const std::vector<Variable>& in) {
    EXPECT_EQ(recomputing(), !seen.empty());
    if (seen.empty()) seen.push_back(false);
    return Variable::from_op("noted", in[0].data().clone(), {in[0]}, [&](const Tensor& dy, GradientSink& sink) {
      seen.push_back(recomputing());
      sink.add(0, dy);
    });
  };
  const Variable y = recompute(segment, {x});
  EXPECT_FALSE(recomputing());
  backward(ops::sum(ops::tanh(y)));
  EXPECT_EQ(seen, (std::vector<bool>{false, true}));
  EXPECT_FALSE(recomputing());
  const Variable broken = recompute(
      [](const std::vector<Variable>& in) {
        return Variable::from_op("broken", in[0].data().clone(), {in[0]},
                                 [](const Tensor&, GradientSink&) { fail("test", "on purpose"); });
      },
      {w});
  EXPECT_CONTAINS(message_of([&] { backward(ops::sum(broken)); }), "on purpose");
  EXPECT_FALSE(recomputing());
}

TEST_F(Recompute, RefusesComputedVariablesThatAreNotInputs) {
  const Variable hidden = ops::sum(ops::tanh(x));
  EXPECT_CONTAINS(
      message_of([&] { recompute([&](const std::vector<Variable>& in) { return ops::add(in[0], hidden); }, {w}); }),
      "without having it as an input");
}

}  // namespace
}  // namespace duet
