#include <cmath>

#include "duet/ops/cross_entropy.h"
#include "duet/ops/l2_normalize.h"
#include "duet/ops/layer_norm.h"
#include "duet/ops/mean_tokens.h"
#include "duet/ops/reduce.h"
#include "duet/ops/softmax.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

constexpr double epsilon = 1e-5;

// GPU kernels move 16 bytes at a time where rows allow it, and give a row of more than 2048 elements a block of
// threads.
const Sizes packs{3, 24}, long_packs{2, 2056}, long_row{1, 2051};

// Fills y row by row: f(x row, y row, width).
template <class F>
Tensor by_rows(const Tensor& x, F&& f) {
  const Tensor y = zeros64(x.shape());
  for (int64_t r = 0; r < rows_of(x); ++r) f(rows64(x).row(r), rows64(y).row(r), rows64(x).width);
  return y;
}

OpCase softmax_case() {
  OpCase row{.op = "softmax"};
  row.sizes = {{2, 3, 5}, {1}, {4, 1}, {3, 17}, {2, 33}, {0, 4}, packs, long_packs, long_row};
  row.large = {301, 257};
  row.make = [](const Sizes& s, Random& random) { return OpInputs{{random_normal(shape_of(s), random, 3)}}; };
  row.run = [](const std::vector<Variable>& x, const OpInputs&) { return std::vector{softmax(x[0])}; };
  row.reference = [](const OpInputs& in) {
    return std::vector{by_rows(in.trainable[0], [](const double* x, double* y, int64_t width) {
      double total = 0;
      for (int64_t c = 0; c < width; ++c) total += std::exp(x[c]);
      for (int64_t c = 0; c < width; ++c) y[c] = std::exp(x[c]) / total;
    })};
  };
  row.mistake = [] { softmax(Variable(Tensor::zeros({3, 0}, DType::f32))); };
  row.message = {"(3, 0) float32"};
  return row;
}

Tensor normalised(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return by_rows(x, [&](const double* in, double* y, int64_t width) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < width; ++c) mean += in[c] / static_cast<double>(width);
    for (int64_t c = 0; c < width; ++c) variance += (in[c] - mean) * (in[c] - mean) / static_cast<double>(width);
    for (int64_t c = 0; c < width; ++c)
      y[c] = (in[c] - mean) / std::sqrt(variance + epsilon) * weight.at(c) + bias.at(c);
  });
}

OpCase layer_norm_case() {
  OpCase row{.op = "layer_norm"};
  row.sizes = {{2, 3, 5}, {7}, {3, 1}, {4, 17}, {2, 33}, {0, 4}, packs, long_packs, long_row};
  row.large = {301, 257};
  row.make = [](const Sizes& s, Random& random) {
    return OpInputs{.trainable = {random_normal(shape_of(s), random, 2), random_normal({s.back()}, random),
                                  random_normal({s.back()}, random)},
                    .parameters = {1, 2}};
  };
  row.run = [](const std::vector<Variable>& x, const OpInputs&) {
    return std::vector{layer_norm(x[0], x[1], x[2], epsilon)};
  };
  row.reference = [](const OpInputs& in) {
    return std::vector{normalised(in.trainable[0], in.trainable[1], in.trainable[2])};
  };
  row.mistake = [] {
    const Variable x(Tensor::zeros({2, 3}, DType::f32)), four(Tensor::zeros({4}, DType::f32));
    layer_norm(x, four, four, epsilon);
  };
  row.message = {"(2, 3) float32", "(4) float32"};
  row.magnitude = 1 / std::sqrt(epsilon);  // the gradient of a row of one element is zero times this
  return row;
}

enum class Use { both, sum, normalised };

OpCase add_layer_norm_case(const std::string& variant, Use use) {
  OpCase row = layer_norm_case();
  row.op = "add_layer_norm";
  row.variant = variant;
  row.make = [](const Sizes& s, Random& random) {
    return OpInputs{.trainable = {random_normal(shape_of(s), random), random_normal(shape_of(s), random, 2),
                                  random_normal({s.back()}, random), random_normal({s.back()}, random)},
                    .parameters = {2, 3}};
  };
  row.run = [use](const std::vector<Variable>& x, const OpInputs&) {
    const AddLayerNorm result = add_layer_norm(x[0], x[1], x[2], x[3], epsilon);
    if (use == Use::sum) return std::vector{result.sum};
    if (use == Use::normalised) return std::vector{result.normalised};
    return std::vector{result.sum, result.normalised};
  };
  row.reference = [use](const OpInputs& in) {
    const Tensor sum = in.trainable[0].clone();
    for (int64_t i = 0; i < sum.numel(); ++i) sum.data<double>()[i] += in.trainable[1].at(i);
    std::vector<Tensor> result;
    if (use != Use::normalised) result.push_back(sum);
    if (use != Use::sum) result.push_back(normalised(sum, in.trainable[2], in.trainable[3]));
    return result;
  };
  row.mistake = [] {
    const Variable x(Tensor::zeros({2, 3}, DType::f32)), three(Tensor::zeros({3}, DType::f32));
    add_layer_norm(x, three, three, three, epsilon);
  };
  row.message = {"(2, 3) float32", "residual (3) float32"};
  return row;
}

OpCase l2_normalize_case(const std::string& variant, double deviation, double eps) {
  OpCase row{.op = "l2_normalize", .variant = variant};
  row.sizes = {{2, 3, 5}, {3, 1}, {4, 17}, {33}, {0, 4}, packs, long_packs, long_row};
  row.large = {301, 257};
  // At least one element of a row is away from zero, so that the norm has a derivative.
  row.make = [deviation](const Sizes& s, Random& random) {
    const Tensor x = random_away_from_zero(shape_of(s), random);
    for (double& v : x.values<double>()) v *= deviation;
    return OpInputs{{x}};
  };
  row.run = [eps](const std::vector<Variable>& x, const OpInputs&) { return std::vector{l2_normalize(x[0], eps)}; };
  row.reference = [eps](const OpInputs& in) {
    return std::vector{by_rows(in.trainable[0], [eps](const double* x, double* y, int64_t width) {
      double squares = 0;
      for (int64_t c = 0; c < width; ++c) squares += x[c] * x[c];
      for (int64_t c = 0; c < width; ++c) y[c] = x[c] / std::max(std::sqrt(squares), eps);
    })};
  };
  row.mistake = [] { l2_normalize(Variable(Tensor::zeros({3, 0}, DType::f32))); };
  row.message = {"(3, 0) float32"};
  return row;
}

// Reduces all elements or the last dimension, with or without dividing.
OpCase reduce_case(const std::string& op, Variable (*function)(const Variable&), bool last, bool average) {
  OpCase row{.op = op};
  row.sizes = {{2, 3, 5}, {1}, {4, 1}, {3, 17}, {33}, {0, 4}, packs, long_packs, long_row};
  if (!last) row.sizes.push_back({});
  if (!average) row.sizes.push_back({3, 0});
  if (average && !last) std::erase(row.sizes, Sizes{0, 4});
  row.large = {301, 257};
  row.make = [](const Sizes& s, Random& random) { return OpInputs{{random_normal(shape_of(s), random)}}; };
  row.run = [function](const std::vector<Variable>& x, const OpInputs&) { return std::vector{function(x[0])}; };
  row.reference = [last, average](const OpInputs& in) {
    const Tensor& x = in.trainable[0];
    Shape shape;
    for (int i = 0; last && i + 1 < x.rank(); ++i) shape.append(x.dim(i));
    const Tensor y = zeros64(shape);
    const int64_t width = last ? x.dim(-1) : x.numel();
    // More exact than what it judges: values that cancel would show its own rounding errors.
    std::vector<long double> totals(static_cast<size_t>(y.numel()));
    for (int64_t i = 0; i < x.numel(); ++i) totals[static_cast<size_t>(i / width)] += x.at(i);
    for (int64_t i = 0; i < y.numel(); ++i)
      y.data<double>()[i] =
          static_cast<double>(totals[static_cast<size_t>(i)] / (average ? static_cast<long double>(width) : 1));
    return std::vector{y};
  };
  if (average) {
    row.mistake = [function] { function(Variable(Tensor::zeros({3, 0}, DType::f32))); };
    row.message = {"(3, 0) float32"};
  } else if (last) {
    row.mistake = [function] { function(Variable(Tensor::zeros({}, DType::f32))); };
    row.message = {"() float32"};
  } else {
    row.mistake = [function] { function(Variable(Tensor::zeros({2}, DType::i64))); };
    row.message = {"(2) int64"};
  }
  return row;
}

struct LossVariant {
  std::string name;
  double smoothing = 0;
  bool weights = false;
  double ignored = 0;  // share of rows
  int64_t ignore_index = -100;
  DType labels = DType::i64;
};

// Sizes: rows, classes.
OpCase cross_entropy_case(const LossVariant& v) {
  OpCase row{.op = "cross_entropy", .variant = v.name};
  row.sizes = {{4, 5}, {1, 1}, {1, 3}, {7, 17}, {3, 33}, {0, 3}, packs, long_packs, long_row};
  row.large = {301, 257};
  row.make = [v](const Sizes& s, Random& random) {
    OpInputs inputs{{random_normal({s[0], s[1]}, random, 2)}};
    const Tensor labels = random_indices({s[0]}, s[1], DType::i64, random);
    for (int64_t& label : labels.values<int64_t>())
      if (random.uniform() < v.ignored) label = v.ignore_index;
    inputs.indices = {labels.to(v.labels)};
    if (v.weights) {
      const Tensor weights = random_away_from_zero({s[1]}, random);
      for (double& w : weights.values<double>()) w = std::abs(w);
      inputs.constant = {weights};
    }
    return inputs;
  };
  row.run = [v](const std::vector<Variable>& x, const OpInputs& in) {
    return std::vector{cross_entropy(x[0], in.indices[0],
                                     {.label_smoothing = v.smoothing,
                                      .class_weights = v.weights ? in.constant[0] : Tensor(),
                                      .ignore_index = v.ignore_index})};
  };
  row.reference = [v](const OpInputs& in) {
    const auto x = rows64(in.trainable[0]);
    const auto weight = [&](int64_t k) { return v.weights ? in.constant[0].at(k) : 1.0; };
    double total = 0, divisor = 0;
    for (int64_t i = 0; i < x.count; ++i) {
      const auto label = static_cast<int64_t>(in.indices[0].at(i));
      if (label == v.ignore_index) continue;
      double sum = 0;
      for (int64_t k = 0; k < x.width; ++k) sum += std::exp(x.row(i)[k]);
      for (int64_t k = 0; k < x.width; ++k) {
        const double target = (k == label ? 1 - v.smoothing : 0) + v.smoothing / static_cast<double>(x.width);
        total -= target * weight(k) * (x.row(i)[k] - std::log(sum));
      }
      divisor += weight(label);
    }
    return std::vector{Tensor::full({}, DType::f64, divisor > 0 ? total / divisor : 0)};
  };
  row.mistake = [] { cross_entropy(Variable(Tensor::zeros({2, 3}, DType::f32)), Tensor::from<int64_t>({2}, {0, 3})); };
  row.message = {"label 3", "row 1", "3 classes"};
  return row;
}

// Sizes: samples, tokens, width. The first sample of a masked row has no token at all.
OpCase mean_tokens_case(const std::string& variant, bool masked) {
  OpCase row{.op = "mean_tokens", .variant = variant};
  row.sizes = {{2, 5, 3}, {1, 1, 1}, {3, 17, 4}, {0, 3, 2}, {2, 3, 0}};
  row.large = {31, 65, 70};
  row.make = [masked](const Sizes& s, Random& random) {
    OpInputs inputs{.trainable = {random_normal(shape_of(s), random)}};
    if (!masked) return inputs;
    inputs.indices = {random_indices({s[0], s[1]}, 2, DType::u8, random)};
    if (s[0] > 0) inputs.indices[0].rows_view(0, 1).fill(0);
    return inputs;
  };
  row.run = [masked](const std::vector<Variable>& x, const OpInputs& in) {
    return std::vector{mean_tokens(x[0], masked ? in.indices[0] : Tensor())};
  };
  row.reference = [masked](const OpInputs& in) {
    const Tensor& x = in.trainable[0];
    const int64_t tokens = x.dim(1), width = x.dim(2);
    const Tensor y = zeros64({x.dim(0), width});
    for (int64_t b = 0; b < x.dim(0); ++b) {
      double count = 0;
      for (int64_t t = 0; masked && t < tokens; ++t) count += in.indices[0].at(b * tokens + t);
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t c = 0; c < width; ++c) {
          const double weight =
              count == 0 ? 1.0 / static_cast<double>(tokens) : in.indices[0].at(b * tokens + t) / count;
          y.data<double>()[b * width + c] += weight * x.at((b * tokens + t) * width + c);
        }
    }
    return std::vector{y};
  };
  row.mistake = [] { mean_tokens(Variable(Tensor::zeros({2, 3, 4}, DType::f32)), Tensor::zeros({2, 4}, DType::u8)); };
  row.message = {"(2, 4) uint8", "(2, 3, 4) float32"};
  row.any_thread_count = false;
  return row;
}

}  // namespace

std::vector<OpCase> row_cases() {
  return {softmax_case(),
          mean_tokens_case("", false),
          mean_tokens_case("mask", true),
          layer_norm_case(),
          add_layer_norm_case("both", Use::both),
          add_layer_norm_case("only_sum", Use::sum),
          add_layer_norm_case("only_normalised", Use::normalised),
          l2_normalize_case("", 1, 1e-12),
          l2_normalize_case("below_eps", 0.01, 1),
          reduce_case("sum", sum, false, false),
          reduce_case("mean", mean, false, true),
          reduce_case("sum_last", sum_last, true, false),
          reduce_case("mean_last", mean_last, true, true),
          cross_entropy_case({.name = ""}),
          cross_entropy_case({.name = "int32", .labels = DType::i32}),
          cross_entropy_case({.name = "smoothing", .smoothing = 0.1}),
          cross_entropy_case({.name = "weights", .weights = true}),
          cross_entropy_case({.name = "weights_smoothing", .smoothing = 0.3, .weights = true, .ignored = 0.3}),
          cross_entropy_case({.name = "ignore", .ignored = 0.5}),
          cross_entropy_case({.name = "ignore_a_class", .smoothing = 0.1, .ignored = 0.3, .ignore_index = 0}),
          cross_entropy_case({.name = "all_ignored", .smoothing = 0.1, .weights = true, .ignored = 1})};
}

}  // namespace duet::ops
