#include <benchmark/benchmark.h>

#include <functional>

#include "duet/autograd/engine.h"
#include "duet/core/parallel.h"
#include "duet/core/philox.h"
#include "duet/models/param_store.h"
#include "duet/ops/attention.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/dropout.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/embedding.h"
#include "duet/ops/gelu.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/linear.h"
#include "duet/ops/patch_embedding.h"
#include "duet/train/optimizer.h"
#include "duet/train/progress.h"

// Operators at the shapes they have in the preset models, named op/dtype/shape/forward|backward/threads:N. Select with
// --benchmark_filter=REGEX; --benchmark_format=json for machines.
namespace duet {
namespace {

// What the encoder layers of a model see.
struct Model {
  const char* name;
  int64_t batch, tokens, width, heads;

  int64_t rows() const { return batch * tokens; }
};
constexpr Model vit_base{"vit-base", 8, 197, 768, 12}, bert_base{"bert-base", 8, 128, 768, 12};
constexpr Model vit_tiny{"vit-tiny", 16, 197, 192, 3}, bert_tiny{"bert-tiny", 16, 64, 256, 4};
constexpr Model vit_mini{"vit-mini", 32, 65, 96, 3}, bert_mini{"bert-mini", 32, 24, 128, 4};

// One pass over inputs that were made before. The result may be undefined when there is no backward pass.
using Op = std::function<Variable()>;

// An op that computes is rated in GFLOP/s; one that moves data in GB/s of the tensors it has to read and write.
struct Work {
  double flops = 0, bytes = 0;
};

struct Case {
  std::string op, shape;
  Work forward, backward;
  std::function<Op()> make;  // makes the inputs
};

Variable random(const Shape& shape, bool trainable = true) {
  Random source(RandomKey{0, 0}.child(static_cast<uint64_t>(shape.numel())));
  const Tensor t = Tensor::empty(shape, DType::f32);
  for (float& x : t.values<float>()) x = static_cast<float>(source.uniform() - 0.5);
  return Variable(t, trainable);
}

Tensor random_ids(const Shape& shape, int64_t end) {
  Random source(RandomKey{0, 1});
  const Tensor t = Tensor::empty(shape, DType::i64);
  for (int64_t& id : t.values<int64_t>()) id = static_cast<int64_t>(source.below(static_cast<uint64_t>(end)));
  return t;
}

Work multiply_adds(int64_t m, int64_t k, int64_t n) {
  return {.flops = 2.0 * static_cast<double>(m * k * n)};
}
// So many float32 tensors of (m, n).
Work tensors(double count, int64_t m, int64_t n) {
  return {.bytes = count * static_cast<double>(m * n) * sizeof(float)};
}
Work twice(Work w) {
  return {2 * w.flops, 2 * w.bytes};
}

Case linear(const Model& m, const char* layer, int64_t in, int64_t out, ops::Activation activation) {
  const Work forward = multiply_adds(m.rows(), in, out);
  return {"linear", text(m.name, ".", layer, ":", m.rows(), "x", in, "x", out), forward, twice(forward), [=] {
            const Variable x = random({m.rows(), in}), w = random({out, in}), b = random({out});
            return [=] { return ops::linear(x, w, b, activation); };
          }};
}

// Forward has the products of scores and context, backward those of dv, dp, dq and dk.
Case attention(const Model& m, double dropout) {
  const Work forward = twice(multiply_adds(m.rows(), m.tokens, m.width));
  return {dropout > 0 ? "attention_dropout" : "attention",
          text(m.name, ":", m.batch, "x", m.heads, "x", m.tokens, "x", m.width / m.heads), forward, twice(forward),
          [=] {
            const Variable qkv = random({m.batch, m.tokens, 3 * m.width});
            const Tensor mask = Tensor::full({m.batch, m.tokens}, DType::u8, 1);
            return [=] {
              return ops::attention(
                  qkv, {.heads = m.heads, .key_mask = mask, .dropout = dropout, .random = RandomKey{0, 2}});
            };
          }};
}

// An op on (rows, width) that has to read or write so many tensors of that size.
Case elementwise(const char* op, const Model& m, int64_t width, double forward, double backward,
                 const std::function<Op(const Shape&)>& make) {
  return {op, text(m.name, ":", m.rows(), "x", width), tensors(forward, m.rows(), width),
          tensors(backward, m.rows(), width), [=] {
            return make({m.rows(), width});
          }};
}

void add_layer_cases(std::vector<Case>& cases, const Model& m) {
  const int64_t c = m.width;
  cases.push_back(linear(m, "qkv", c, 3 * c, ops::Activation::none));
  cases.push_back(linear(m, "output", c, c, ops::Activation::none));
  cases.push_back(linear(m, "mlp_in_gelu", c, 4 * c, ops::Activation::gelu));
  cases.push_back(linear(m, "mlp_out", 4 * c, c, ops::Activation::none));
  cases.push_back(attention(m, 0));
  cases.push_back(elementwise("layer_norm", m, c, 2, 5, [](const Shape& s) {
    const Variable x = random(s), w = random({s[1]}), b = random({s[1]});
    return [=] { return ops::layer_norm(x, w, b, 1e-6); };
  }));
  cases.push_back(elementwise("add_layer_norm", m, c, 4, 5, [](const Shape& s) {
    const Variable x = random(s), r = random(s), w = random({s[1]}), b = random({s[1]});
    return [=] { return ops::add_layer_norm(x, r, w, b, 1e-6).normalised; };
  }));
  cases.push_back(elementwise("gelu", m, 4 * c, 2, 3, [](const Shape& s) {
    const Variable x = random(s);
    return [=] { return ops::gelu(x); };
  }));
  cases.push_back(elementwise("add", m, c, 3, 0, [](const Shape& s) {
    const Variable x = random(s), y = random(s);
    return [=] { return ops::add(x, y); };
  }));
}

void add_vision_cases(std::vector<Case>& cases, const Model& m, int64_t side, int64_t patch) {
  const int64_t count = m.tokens - 1, values = 3 * patch * patch;
  const Work forward = multiply_adds(m.batch * count, values, m.width);
  // The images need no gradient, so backward has the weight's product only.
  cases.push_back(
      {"patch_embedding", text(m.name, ":", m.batch, "x3x", side, "x", side, "p", patch), forward, forward, [=] {
         const Variable images = random({m.batch, 3, side, side}, false);
         const Variable w = random({m.width, 3, patch, patch}), b = random({m.width});
         const Variable token = random({1, 1, m.width}), positions = random({1, m.tokens, m.width});
         return [=] { return ops::patch_embedding(images, w, b, token, positions); };
       }});
}

void add_text_cases(std::vector<Case>& cases, const Model& m) {
  constexpr int64_t vocabulary = 30522;
  cases.push_back(attention(m, 0.1));
  cases.push_back(elementwise("dropout", m, m.width, 2, 2, [](const Shape& s) {
    const Variable x = random(s);
    return [=] { return ops::dropout(x, 0.1, RandomKey{0, 3}); };
  }));
  // The gradient is dense: backward writes all of the vocabulary.
  cases.push_back({"embedding", text(m.name, ":", m.rows(), "of", vocabulary, "x", m.width),
                   tensors(2, m.rows(), m.width), tensors(1, m.rows() + vocabulary, m.width), [=] {
                     const Variable weight = random({vocabulary, m.width});
                     const Tensor ids = random_ids({m.batch, m.tokens}, vocabulary);
                     return [=] { return ops::embedding(ids, weight, 0); };
                   }});
}

void add_loss_case(std::vector<Case>& cases, int64_t rows, int64_t classes) {
  cases.push_back(
      {"cross_entropy", text(rows, "x", classes), tensors(2, rows, classes), tensors(2, rows, classes), [=] {
         const Variable logits = random({rows, classes});
         const Tensor labels = random_ids({rows}, classes);
         return [=] { return ops::cross_entropy(logits, labels); };
       }});
}

// One tensor of n parameters: reads and writes weight and both moments, reads the gradient.
void add_optimizer_cases(std::vector<Case>& cases, int64_t n) {
  const auto with_gradient = [n] {
    const auto store = std::make_shared<models::ParamStore>(0);
    store->create("weight", {n}, models::Init::normal(0.02)).set_gradient(random({n}).data().clone());
    return store;
  };
  cases.push_back({"adam", std::to_string(n), tensors(7, 1, n), {}, [=] {
                     const auto store = with_gradient();
                     const auto adam = std::make_shared<train::Adam>(*store, train::AdamConfig{});
                     return [=] {
                       adam->step();
                       return store->at("weight");
                     };
                   }});
  cases.push_back({"clip_gradient_norm", std::to_string(n), tensors(3, 1, n), {}, [=] {
                     const auto store = with_gradient();
                     return [=] {
                       // Small enough to scale every time.
                       train::clip_gradient_norm(*store, 1e-9);
                       return store->at("weight");
                     };
                   }});
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Model& m : {vit_base, bert_base, vit_tiny, bert_tiny, vit_mini, bert_mini}) add_layer_cases(cases, m);
  add_vision_cases(cases, vit_base, 224, 16);
  add_vision_cases(cases, vit_tiny, 224, 16);
  add_vision_cases(cases, vit_mini, 64, 8);
  for (const Model& m : {bert_base, bert_tiny, bert_mini}) add_text_cases(cases, m);
  add_loss_case(cases, 32, 10);
  add_loss_case(cases, 153, 30522);  // masked-language modelling: 15 % of 8 x 128 positions
  add_optimizer_cases(cases, 1 << 20);
  add_optimizer_cases(cases, 1 << 24);
  return cases;
}

void report(benchmark::State& state, Work work) {
  const auto passes = static_cast<double>(state.iterations());
  const bool computes = work.flops > 0;
  state.counters[computes ? "GFLOP/s" : "GB/s"] =
      benchmark::Counter((computes ? work.flops : work.bytes) * 1e-9 * passes, benchmark::Counter::kIsRate);
}

// Timed by hand, because a backward pass uses its graph up: each needs a forward pass that does not count.
void run_forward(benchmark::State& state, const Case& c, int thread_count) {
  set_threads(thread_count);
  const Op op = c.make();
  op();  // oneDNN makes its kernel for a shape on first use
  for (auto _ : state) {
    const train::Stopwatch watch;
    const Variable y = op();
    state.SetIterationTime(watch.seconds());
    benchmark::DoNotOptimize(y.data().raw());
  }
  report(state, c.forward);
}

void run_backward(benchmark::State& state, const Case& c, int thread_count) {
  set_threads(thread_count);
  const Op op = c.make();
  const Tensor seed = random(op().shape()).data();
  gradients({op()}, {seed}, {});
  for (auto _ : state) {
    const Variable y = op();
    const train::Stopwatch watch;
    gradients({y}, {seed}, {});
    state.SetIterationTime(watch.seconds());
  }
  report(state, c.backward);
}

void register_cases(const std::vector<Case>& cases, int thread_count) {
  const auto add = [&](const Case& c, const char* pass, auto* run) {
    const std::string name = text(c.op, "/float32/", c.shape, "/", pass, "/threads:", thread_count);
    benchmark::RegisterBenchmark(name.c_str(), run, c, thread_count)->UseManualTime()->Unit(benchmark::kMicrosecond);
  };
  for (const Case& c : cases) {
    add(c, "forward", run_forward);
    if (c.backward.flops > 0 || c.backward.bytes > 0) add(c, "backward", run_backward);
  }
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  const int all = duet::threads();
  const std::vector<duet::Case> cases = duet::all_cases();
  duet::register_cases(cases, all);
  if (all > 1) duet::register_cases(cases, 1);
  // Shorter than the library's half second, for so many cases; a later --benchmark_min_time overrides it.
  std::vector<char*> arguments(argv, argv + argc);
  char min_time[] = "--benchmark_min_time=0.1";
  arguments.insert(arguments.begin() + 1, min_time);
  int count = argc + 1;
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
