#include <gtest/gtest.h>

#include <map>

#include "duet/autograd/checkpoint.h"
#include "duet/autograd/engine.h"
#include "duet/core/trace.h"
#include "duet/ops/attention.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/embedding.h"
#include "duet/ops/gelu.h"
#include "duet/ops/linear.h"
#include "duet/ops/matmul.h"
#include "duet/ops/patch_embedding.h"
#include "duet/ops/reduce.h"
#include "duet/ops/slice.h"
#include "duet/tests/ops/op_runner.h"

// What a trace knows of ops.
namespace duet::ops {
namespace {

Variable leaf(const Shape& shape, bool trainable = true) {
  return Variable(Tensor::full(shape, DType::f32, 0.5), trainable);
}

// Forward and backward of f.
template <class F>
Trace traced(F&& f) {
  start_trace({});
  const Variable y = f();
  gradients({y}, {Tensor::full(y.shape(), y.dtype(), 1)}, {});
  return stop_trace();
}

struct Pass {
  int64_t calls = 0, flops = 0, bytes = 0;
  bool operator==(const Pass&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Pass& p) {
  return out << p.calls << " calls, " << p.flops << " FLOPs, " << p.bytes << " bytes";
}

Pass pass(const Trace& trace, const std::string& op, ScopeKind kind) {
  Pass p;
  for (const TraceEvent& e : trace.events)
    if (e.name == op && e.kind == kind) p = {p.calls + 1, p.flops + e.flops, p.bytes + e.bytes};
  return p;
}
Pass forward(const Trace& trace, const std::string& op) {
  return pass(trace, op, ScopeKind::forward);
}
Pass backward(const Trace& trace, const std::string& op) {
  return pass(trace, op, ScopeKind::backward);
}

class OpTrace : public ::testing::TestWithParam<OpCase> {};

// Ops made of others have their shapes and bytes there.
TEST_P(OpTrace, HasShapesAndWorkOfBothPasses) {
  const OpCase& row = GetParam();
  const OpInputs inputs = inputs_for(row, row.large, DType::f32);
  start_trace({});
  run(row, inputs);
  const Trace trace = stop_trace();
  EXPECT_EQ(forward(trace, row.op).calls > 0, true);
  std::map<ScopeKind, int64_t> bytes;
  for (const TraceEvent& e : trace.events) {
    bytes[e.kind] += e.bytes;
    EXPECT_GE(e.end - e.begin, e.inside) << e.name;
    if (e.name != row.op || e.inside > 0 || row.name() == "dropout_none") continue;
    EXPECT_FALSE(e.inputs.empty()) << e.name;
    EXPECT_FALSE(e.outputs.empty()) << e.name;
  }
  // Memory that is handed on is neither read nor written.
  const bool view = row.op == "reshape" || row.name() == "dropout_none";
  EXPECT_EQ(bytes[ScopeKind::forward] > 0, !view);
  EXPECT_EQ(bytes[ScopeKind::backward] > 0, !view && row.name() != "add" && row.name() != "add_layer_norm_only_sum");
}

INSTANTIATE_TEST_SUITE_P(All, OpTrace, ::testing::ValuesIn(op_cases()),
                         [](const auto& row) { return row.param.name(); });

TEST(OpWork, LinearCountsTheProductsThatItComputes) {
  const int64_t m = 6, in = 5, out = 7, f = 4;
  const Variable x = leaf({2, 3, in}), w = leaf({out, in}), b = leaf({out});
  const Trace plain = traced([&] { return linear(x, w, b); });
  EXPECT_EQ(forward(plain, "linear"), (Pass{1, 2 * m * in * out, f * (m * in + in * out + out + m * out)}));
  // dy, x and w in; dx, dw and db out.
  EXPECT_EQ(backward(plain, "linear"), (Pass{1, 4 * m * in * out, f * (m * out + 2 * m * in + 2 * in * out + out)}));
  // The value before the activation is written, and read in the backward pass.
  const Trace activated = traced([&] { return linear(x, w, b, Activation::gelu); });
  EXPECT_EQ(forward(activated, "linear").bytes - forward(plain, "linear").bytes, f * m * out);
  EXPECT_EQ(backward(activated, "linear").bytes - backward(plain, "linear").bytes, f * m * out);
  const Variable frozen = leaf({2, 3, in}, false);
  EXPECT_EQ(backward(traced([&] { return linear(frozen, w, b); }), "linear").flops, 2 * m * in * out);
}

TEST(OpWork, FeedForwardCountsBothLayersOnce) {
  const int64_t m = 6, in = 5, hidden = 11, out = 7, f = 4;
  const Variable x = leaf({2, 3, in}), w1 = leaf({hidden, in}), b1 = leaf({hidden}), w2 = leaf({out, hidden}),
                 b2 = leaf({out});
  const int64_t weights = in * hidden + hidden * out, biases = hidden + out;
  const Trace trace = traced([&] { return feed_forward(x, w1, b1, Activation::gelu, w2, b2); });
  // Of the hidden layer only the value before the activation is kept.
  EXPECT_EQ(forward(trace, "feed_forward"),
            (Pass{1, 2 * m * weights, f * (m * in + weights + biases + m * hidden + m * out)}));
  EXPECT_EQ(backward(trace, "feed_forward"),
            (Pass{1, 4 * m * weights, f * (m * out + 2 * m * in + 2 * weights + biases + m * hidden)}));
}

TEST(OpWork, OtherProducts) {
  const Variable a = leaf({2, 3, 4}), b = leaf({2, 4, 5});
  const Trace product = traced([&] { return matmul(a, b); });
  EXPECT_EQ(forward(product, "matmul"), (Pass{1, 2 * 2 * 3 * 4 * 5, 4 * (24 + 40 + 30)}));
  EXPECT_EQ(backward(product, "matmul"), (Pass{1, 4 * 2 * 3 * 4 * 5, 4 * (30 + 2 * 24 + 2 * 40)}));

  const Variable qkv = leaf({2, 5, 3 * 8});
  const Trace attended = traced([&] { return attention(qkv, {.heads = 2}); });
  EXPECT_EQ(forward(attended, "attention"), (Pass{1, 2 * 2 * 2 * 5 * 5 * 8, 4 * (2 * 5 * 24 + 2 * 5 * 8)}));
  EXPECT_EQ(backward(attended, "attention"), (Pass{1, 2 * 4 * 2 * 5 * 5 * 8, 4 * (2 * 2 * 5 * 24 + 2 * 2 * 5 * 8)}));

  // 3 + 1 + 4 tokens: the pairs of each sequence.
  const Tensor starts = Tensor::from<int64_t>({4}, {0, 3, 4, 8});
  const Trace unpadded = traced([&] {
    return attention(leaf({8, 3 * 8}), {.heads = 2, .starts = starts, .longest = 4});
  });
  EXPECT_EQ(forward(unpadded, "attention").flops, 2 * 2 * (9 + 1 + 16) * 8);
  EXPECT_EQ(backward(unpadded, "attention").flops, 2 * 4 * (9 + 1 + 16) * 8);

  const Variable images = leaf({2, 3, 4, 4}, false), w = leaf({6, 3, 2, 2});
  const Trace patches = traced([&] { return patch_embedding(images, w, leaf({6}), leaf({1, 1, 6}), leaf({1, 5, 6})); });
  EXPECT_EQ(forward(patches, "patch_embedding").flops, 2 * 2 * 4 * 12 * 6);
  EXPECT_EQ(backward(patches, "patch_embedding").flops, 2 * 2 * 4 * 12 * 6);
}

TEST(OpWork, SavedActivationsAreRead) {
  const Variable x = leaf({3, 4}), y = leaf({3, 4});
  const int64_t one = 3 * 4 * 4;
  EXPECT_EQ(forward(traced([&] { return gelu(x); }), "gelu").bytes, 2 * one);
  EXPECT_EQ(backward(traced([&] { return gelu(x); }), "gelu").bytes, 3 * one);
  const Variable row = leaf({4});
  EXPECT_EQ(backward(traced([&] { return add(x, y); }), "add").bytes, 0);
  EXPECT_EQ(backward(traced([&] { return add(x, row); }), "add").bytes, one + 4 * 4);
  EXPECT_EQ(backward(traced([&] { return subtract(x, y); }), "subtract").bytes, 2 * one);
  EXPECT_EQ(backward(traced([&] { return multiply(x, y); }), "multiply").bytes, 5 * one);
  EXPECT_EQ(backward(traced([&] { return mean(x); }), "mean").bytes, one + 4);
}

TEST(OpWork, PartsCountAlone) {
  const Variable table = leaf({100, 8});
  const Tensor ids = Tensor::zeros({3}, DType::i64);
  EXPECT_EQ(forward(traced([&] { return embedding(ids, table); }), "embedding").bytes, 3 * 8 + 2 * 3 * 8 * 4);
  EXPECT_EQ(forward(traced([&] { return slice(table, 0, 10, 12); }), "slice").bytes, 2 * 2 * 8 * 4);
}

// Gradients of two uses add up in an op of their own, and recomputed ops count as what they are.
TEST(OpWork, AutogradsOwn) {
  const Variable x = leaf({10, 10});
  const Trace twice = traced([&] { return add(gelu(x), gelu(x)); });
  EXPECT_EQ(backward(twice, "accumulate"), (Pass{1, 0, 3 * 400}));
  const Trace again =
      traced([&] { return recompute([](const std::vector<Variable>& in) { return matmul(in[0], in[0]); }, {x}); });
  EXPECT_EQ(forward(again, "matmul").calls, 2);
  EXPECT_EQ(forward(again, "matmul").flops, 2 * 2 * 1000);
  EXPECT_EQ(backward(again, "matmul").flops, 2 * 2 * 1000);
  EXPECT_EQ(forward(again, "recompute"), (Pass{1, 0, 0}));
  EXPECT_EQ(backward(again, "recompute"), (Pass{1, 0, 0}));
}

}  // namespace
}  // namespace duet::ops
