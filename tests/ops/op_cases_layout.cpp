#include "duet/ops/concat.h"
#include "duet/ops/embedding.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/reshape.h"
#include "duet/ops/scatter_rows.h"
#include "duet/ops/slice.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

// y[i] = table[ids[i]].
Tensor looked_up(const Tensor& ids, const Tensor& table) {
  Shape shape = ids.shape();
  shape.append(table.dim(1));
  const Tensor y = zeros64(shape);
  const int64_t width = table.dim(1);
  for (int64_t i = 0; i < y.numel(); ++i)
    y.data<double>()[i] = table.at(static_cast<int64_t>(ids.at(i / width)) * width + i % width);
  return y;
}

// Sizes: rows of the table, its width, then the shape of the ids. More ids than rows, so that ids repeat.
OpCase embedding_case(const std::string& variant, DType dtype, int64_t padding) {
  OpCase row{.op = "embedding", .variant = variant};
  row.sizes = {{3, 5, 2, 4}, {1, 1, 1}, {4, 17, 9}, {5, 33}, {3, 2, 0, 2}, {3, 0, 2}};
  row.large = {31, 257, 3, 301};
  row.make = [dtype](const Sizes& s, Random& random) {
    return OpInputs{.trainable = {random_normal({s[0], s[1]}, random)},
                    .indices = {random_indices(shape_of({s.begin() + 2, s.end()}), s[0], dtype, random)}};
  };
  row.run = [padding](const std::vector<Variable>& x, const OpInputs& in) {
    return std::vector{embedding(in.indices[0], x[0], padding)};
  };
  row.reference = [](const OpInputs& in) { return std::vector{looked_up(in.indices[0], in.trainable[0])}; };
  row.mistake = [] { embedding(Tensor::from<int64_t>({2}, {1, -1}), Variable(Tensor::zeros({4, 2}, DType::f32))); };
  row.message = {"id -1", "position 1", "vocabulary of 4"};
  row.true_derivative = padding < 0;
  return row;
}

OpCase gather_rows_case(const std::string& variant, DType dtype) {
  OpCase row = embedding_case(variant, dtype, -1);
  row.op = "gather_rows";
  row.sizes = {{3, 5, 8}, {1, 1, 1}, {4, 17, 9}, {3, 2, 0}, {3, 0, 2}};
  row.large = {31, 257, 903};
  row.run = [](const std::vector<Variable>& x, const OpInputs& in) {
    return std::vector{gather_rows(x[0], in.indices[0])};
  };
  row.mistake = [] { gather_rows(Variable(Tensor::zeros({4, 2}, DType::f32)), Tensor::from<int32_t>({2}, {1, 4})); };
  row.message = {"index 4", "position 1", "(4, 2) float32"};
  return row;
}

// Sizes: rows of the result, their width, rows that are given.
OpCase scatter_rows_case(const std::string& variant, DType dtype) {
  OpCase row = gather_rows_case(variant, dtype);
  row.op = "scatter_rows";
  row.make = [dtype](const Sizes& s, Random& random) {
    return OpInputs{.trainable = {random_normal({s[2], s[1]}, random)},
                    .indices = {random_indices({s[2]}, s[0], dtype, random), Tensor::from<int64_t>({1}, {s[0]})}};
  };
  row.run = [](const std::vector<Variable>& x, const OpInputs& in) {
    return std::vector{scatter_rows(x[0], in.indices[0], static_cast<int64_t>(in.indices[1].at(0)))};
  };
  row.reference = [](const OpInputs& in) {
    const Tensor &x = in.trainable[0], y = zeros64({static_cast<int64_t>(in.indices[1].at(0)), x.dim(1)});
    for (int64_t i = 0; i < x.numel(); ++i)
      rows64(y).row(static_cast<int64_t>(in.indices[0].at(i / x.dim(1))))[i % x.dim(1)] += x.at(i);
    return std::vector{y};
  };
  row.mistake = [] {
    scatter_rows(Variable(Tensor::zeros({2, 3}, DType::f32)), Tensor::from<int32_t>({2}, {0, -1}), 4);
  };
  row.message = {"index -1", "position 1", "4 rows"};
  return row;
}

// Sizes: the dimension outside, three lengths to join, the dimension inside.
OpCase concat_case(const std::string& variant, int axis, bool outside, bool inside) {
  OpCase row{.op = "concat", .variant = variant};
  row.sizes = {{2, 1, 2, 3, 3}, {1, 1, 1, 1, 1}, {3, 0, 5, 4, 17}, {0, 1, 2, 3, 2}, {2, 0, 0, 0, 2}};
  row.large = {65, 70, 130, 33, 7};
  row.make = [=](const Sizes& s, Random& random) {
    OpInputs inputs;
    for (const size_t i : {1, 2, 3}) {
      Shape shape;
      if (outside) shape.append(s[0]);
      shape.append(s[i]);
      if (inside) shape.append(s[4]);
      inputs.trainable.push_back(random_normal(shape, random));
    }
    return inputs;
  };
  row.run = [axis](const std::vector<Variable>& x, const OpInputs&) { return std::vector{concat(x, axis)}; };
  row.reference = [=](const OpInputs& in) {
    const Tensor& first = in.trainable[0];
    const int at = outside ? 1 : 0;
    Shape shape = first.shape();
    int64_t length = 0;
    for (const Tensor& part : in.trainable) length += part.dim(at);
    shape.set(at, length);
    const Tensor y = zeros64(shape);
    const int64_t inner = inside ? first.dim(-1) : 1;
    for (int64_t i = 0; i < y.numel(); ++i) {
      int64_t j = i / inner % length;
      size_t part = 0;
      while (j >= in.trainable[part].dim(at)) j -= in.trainable[part++].dim(at);
      y.data<double>()[i] =
          in.trainable[part].at((i / inner / length * in.trainable[part].dim(at) + j) * inner + i % inner);
    }
    return std::vector{y};
  };
  row.mistake = [axis] {
    concat({Variable(Tensor::zeros({2, 3, 4}, DType::f32)), Variable(Tensor::zeros({5, 6, 7}, DType::f32))}, axis);
  };
  row.message = {"(2, 3, 4) float32", "(5, 6, 7) float32"};
  return row;
}

// Sizes: outside, length, inside, begin, end.
OpCase slice_case(const std::string& variant, int axis, bool outside, bool inside) {
  OpCase row{.op = "slice", .variant = variant};
  row.sizes = {{2, 5, 3, 1, 4}, {1, 1, 1, 0, 1}, {3, 17, 5, 16, 17}, {2, 4, 3, 2, 2}, {0, 3, 2, 0, 2}};
  row.large = {65, 257, 7, 3, 251};
  row.make = [=](const Sizes& s, Random& random) {
    Shape shape;
    if (outside) shape.append(s[0]);
    shape.append(s[1]);
    if (inside) shape.append(s[2]);
    return OpInputs{.trainable = {random_normal(shape, random)}, .indices = {Tensor::from<int64_t>({2}, {s[3], s[4]})}};
  };
  row.run = [axis](const std::vector<Variable>& x, const OpInputs& in) {
    const auto limit = [&](int64_t i) { return static_cast<int64_t>(in.indices[0].at(i)); };
    return std::vector{slice(x[0], axis, limit(0), limit(1))};
  };
  row.reference = [=](const OpInputs& in) {
    const Tensor& x = in.trainable[0];
    const int at = outside ? 1 : 0;
    const int64_t begin = in.indices[0].data<int64_t>()[0], length = in.indices[0].data<int64_t>()[1] - begin;
    const int64_t inner = inside ? x.dim(-1) : 1;
    Shape shape = x.shape();
    shape.set(at, length);
    const Tensor y = zeros64(shape);
    for (int64_t i = 0; i < y.numel(); ++i)
      y.data<double>()[i] = x.at((i / inner / length * x.dim(at) + begin + i / inner % length) * inner + i % inner);
    return std::vector{y};
  };
  row.mistake = [axis] { slice(Variable(Tensor::zeros({3, 3, 3}, DType::f32)), axis, 2, 4); };
  row.message = {"[2, 4)", "(3, 3, 3) float32"};
  return row;
}

// Sizes: the shape, which becomes one with its dimensions in reverse.
OpCase reshape_case() {
  OpCase row{.op = "reshape"};
  row.sizes = {{}, {1}, {2, 3, 5}, {3, 0, 2}, {7, 17}};
  row.large = {307, 257};
  row.make = [](const Sizes& s, Random& random) { return OpInputs{{random_normal(shape_of(s), random)}}; };
  const auto reversed = [](const Shape& shape) {
    Shape result;
    for (int i = shape.rank() - 1; i >= 0; --i) result.append(shape[i]);
    return result;
  };
  row.run = [reversed](const std::vector<Variable>& x, const OpInputs&) {
    return std::vector{reshape(x[0], reversed(x[0].shape()))};
  };
  row.reference = [reversed](const OpInputs& in) {
    const Tensor y = zeros64(reversed(in.trainable[0].shape()));
    for (int64_t i = 0; i < y.numel(); ++i) y.data<double>()[i] = in.trainable[0].at(i);
    return std::vector{y};
  };
  row.mistake = [] { reshape(Variable(Tensor::zeros({2, 3}, DType::f32)), {4}); };
  row.message = {"(2, 3) float32", "(4)"};
  return row;
}

}  // namespace

std::vector<OpCase> layout_cases() {
  return {embedding_case("int64", DType::i64, -1),  embedding_case("int32", DType::i32, -1),
          embedding_case("padding", DType::i64, 0), gather_rows_case("int64", DType::i64),
          gather_rows_case("int32", DType::i32),    scatter_rows_case("int64", DType::i64),
          scatter_rows_case("int32", DType::i32),   concat_case("first", 0, false, true),
          concat_case("middle", 1, true, true),     concat_case("last", -1, true, false),
          slice_case("first", 0, false, true),      slice_case("middle", -2, true, true),
          slice_case("last", -1, true, false),      reshape_case()};
}

}  // namespace duet::ops
