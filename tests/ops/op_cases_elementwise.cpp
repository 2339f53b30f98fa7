#include <cmath>
#include <numbers>

#include "duet/ops/cast.h"
#include "duet/ops/dropout.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/exp.h"
#include "duet/ops/gelu.h"
#include "duet/ops/tanh.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

template <class F>
Tensor mapped(const Tensor& x, F&& f) {
  const Tensor y = zeros64(x.shape());
  for (int64_t i = 0; i < x.numel(); ++i) y.data<double>()[i] = f(i);
  return y;
}

// y[i] = f(x[i]); sizes are the shape.
OpCase unary_case(const std::string& op, const std::string& variant, std::function<Variable(const Variable&)> function,
                  std::function<double(double)> f) {
  OpCase row{.op = op, .variant = variant};
  row.sizes = {{}, {1}, {7}, {3, 5}, {2, 0, 3}, {2, 3, 17}, {1, 2, 1, 2, 1, 3}};
  row.large = {307, 257};
  row.make = [](const Sizes& s, Random& random) { return OpInputs{{random_normal(shape_of(s), random, 2)}}; };
  row.run = [function](const std::vector<Variable>& x, const OpInputs&) { return std::vector{function(x[0])}; };
  row.reference = [f](const OpInputs& in) {
    return std::vector{mapped(in.trainable[0], [&](int64_t i) { return f(in.trainable[0].at(i)); })};
  };
  row.mistake = [function] { function(Variable(Tensor::zeros({2, 3}, DType::i64))); };
  row.message = {"(2, 3) int64"};
  return row;
}

OpCase dropout_case(const std::string& variant, double p) {
  const RandomKey key{3, 8};
  OpCase row = unary_case("dropout", variant, [=](const Variable& x) { return dropout(x, p, key); }, {});
  const double rounded = static_cast<float>(p);
  row.reference = [=](const OpInputs& in) {
    return std::vector{mapped(in.trainable[0], [&](int64_t i) {
      const auto position = static_cast<uint64_t>(i);
      const bool kept = philox(key, position / 4)[position % 4] >= std::floor(rounded * 0x1p32);
      return kept ? in.trainable[0].at(i) / (1 - rounded) : 0;
    })};
  };
  row.mistake = [=] { dropout(Variable(Tensor::zeros({2}, DType::f32)), 0.99999999, key); };
  row.message = {"[0, 1)"};
  return row;
}

// Sizes: rows and width. They are rows of a matrix with more, in any order, but some are neighbours there too.
OpCase dropout_rows_case(double p) {
  const RandomKey key{3, 8};
  OpCase row = dropout_case("rows", p);
  row.sizes = {{1, 1}, {7, 3}, {3, 17}, {0, 4}, {3, 0}, {5, 128}};
  row.make = [](const Sizes& s, Random& random) {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < s[0]; ++i)
      rows.push_back(i > 0 && random.below(3) > 0 ? rows.back() + 1 : static_cast<int64_t>(random.below(1000)));
    return OpInputs{.trainable = {random_normal(shape_of(s), random, 2)}, .indices = {Tensor::from({s[0]}, rows)}};
  };
  row.run = [=](const std::vector<Variable>& x, const OpInputs& in) {
    return std::vector{dropout(x[0], p, key, in.indices[0])};
  };
  row.reference = [=](const OpInputs& in) {
    const int64_t width = in.trainable[0].dim(1);
    const double rounded = static_cast<float>(p);
    return std::vector{mapped(in.trainable[0], [&](int64_t i) {
      const auto position = static_cast<uint64_t>(in.indices[0].at(i / width)) * static_cast<uint64_t>(width) +
                            static_cast<uint64_t>(i % width);
      const bool kept = philox(key, position / 4)[position % 4] >= std::floor(rounded * 0x1p32);
      return kept ? in.trainable[0].at(i) / (1 - rounded) : 0;
    })};
  };
  row.mistake = [=] { dropout(Variable(Tensor::zeros({2, 3}, DType::f32)), p, key, Tensor::zeros({3}, DType::i64)); };
  row.message = {"(3) int64", "(2, 3) float32"};
  row.cpu_only = true;
  return row;
}

using BinaryFunction = Variable (*)(const Variable&, const Variable&);

// Sizes are the shape of a; b is a's last `b_rank` dimensions.
OpCase binary_case(const std::string& op, const std::string& variant, BinaryFunction function,
                   double (*f)(double, double), int b_rank) {
  OpCase row{.op = op, .variant = variant};
  row.sizes = {{1}, {7}, {3, 5}, {2, 0, 3}, {3, 0}, {0, 4}, {1, 17}, {2, 3, 17}};
  row.large = {307, 257};
  row.make = [b_rank](const Sizes& s, Random& random) {
    const auto keep = b_rank < 0 ? s.size() : std::min(s.size(), static_cast<size_t>(b_rank));
    const Sizes last(s.end() - static_cast<std::ptrdiff_t>(keep), s.end());
    return OpInputs{{random_normal(shape_of(s), random), random_away_from_zero(shape_of(last), random)}};
  };
  row.run = [function](const std::vector<Variable>& x, const OpInputs&) { return std::vector{function(x[0], x[1])}; };
  row.reference = [f](const OpInputs& in) {
    const Tensor &a = in.trainable[0], &b = in.trainable[1];
    return std::vector{mapped(a, [&](int64_t i) { return f(a.at(i), b.at(i % b.numel())); })};
  };
  row.mistake = [function] {
    function(Variable(Tensor::zeros({2, 3}, DType::f32)), Variable(Tensor::zeros({2}, DType::f32)));
  };
  row.message = {"(2, 3) float32", "(2) float32"};
  return row;
}

OpCase cast_case() {
  // To float64, which is exact, so that the derivative can be checked; rounding has a test of its own.
  OpCase row = unary_case(
      "cast", "", [](const Variable& x) { return cast(x, DType::f64); }, [](double x) { return x; });
  row.mistake = [] { cast(Variable(Tensor::zeros({2}, DType::f32)), DType::i64); };
  row.message = {"float32", "int64"};
  return row;
}

}  // namespace

std::vector<OpCase> elementwise_cases() {
  std::vector<OpCase> result = {
      unary_case(
          "gelu", "exact", [](const Variable& x) { return gelu(x); },
          [](double x) { return 0.5 * x * std::erfc(-x / std::numbers::sqrt2); }),
      unary_case(
          "gelu", "tanh", [](const Variable& x) { return gelu(x, true); },
          [](double x) {
            return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * std::pow(x, 3))));
          }),
      unary_case(
          "tanh", "", [](const Variable& x) { return tanh(x); }, [](double x) { return std::tanh(x); }),
      unary_case(
          "exp", "", [](const Variable& x) { return exp(x); }, [](double x) { return std::exp(x); }),
      unary_case(
          "scale", "", [](const Variable& x) { return scale(x, -1.5); }, [](double x) { return -1.5 * x; }),
      dropout_case("", 0.3),
      dropout_case("nearly_all", 0.97),
      dropout_case("none", 0),
      dropout_rows_case(0.3),
      cast_case()};
  struct Arithmetic {
    const char* op;
    BinaryFunction function;
    double (*f)(double, double);
  };
  for (const Arithmetic& a : {Arithmetic{"add", add, [](double x, double y) { return x + y; }},
                              Arithmetic{"subtract", subtract, [](double x, double y) { return x - y; }},
                              Arithmetic{"multiply", multiply, [](double x, double y) { return x * y; }},
                              Arithmetic{"divide", divide, [](double x, double y) { return x / y; }}}) {
    result.push_back(binary_case(a.op, "", a.function, a.f, -1));
    result.push_back(binary_case(a.op, "broadcast", a.function, a.f, 1));
    result.push_back(binary_case(a.op, "scalar", a.function, a.f, 0));
  }
  return result;
}

}  // namespace duet::ops
