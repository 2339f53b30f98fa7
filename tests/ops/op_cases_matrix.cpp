#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "duet/ops/attention.h"
#include "duet/ops/linear.h"
#include "duet/ops/matmul.h"
#include "duet/ops/patch_embedding.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

double activate(Activation activation, double z) {
  switch (activation) {
    case Activation::none:
      return z;
    case Activation::gelu:
      return 0.5 * z * std::erfc(-z / std::numbers::sqrt2);
    case Activation::gelu_tanh:
      return 0.5 * z * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (z + 0.044715 * z * z * z)));
  }
  return 0;
}

// Sizes: leading dimensions of x, then input and output width.
OpCase linear_case(const std::string& variant, bool bias, Activation activation) {
  OpCase row{.op = "linear", .variant = variant};
  row.sizes = {{2, 3, 4, 5}, {1, 1}, {1, 1, 1}, {3, 17, 33}, {0, 2, 3, 4}, {2, 0, 3}, {2, 3, 0}, {16, 7}, {5, 8, 24}};
  row.large = {3, 67, 130, 257};
  row.make = [bias](const Sizes& s, Random& random) {
    const int64_t out = s.back(), in = s[s.size() - 2];
    OpInputs inputs{{random_normal(shape_of({s.begin(), s.end() - 1}), random), random_normal({out, in}, random, 0.5)}};
    if (bias) inputs.trainable.push_back(random_normal({out}, random));
    inputs.parameters = {1, 2};
    return inputs;
  };
  row.run = [bias, activation](const std::vector<Variable>& x, const OpInputs&) {
    return std::vector{linear(x[0], x[1], bias ? x[2] : Variable(), activation)};
  };
  row.reference = [bias, activation](const OpInputs& in) {
    const auto x = rows64(in.trainable[0]), w = rows64(in.trainable[1]);
    Shape shape = in.trainable[0].shape();
    shape.set(-1, w.count);
    const Tensor y = zeros64(shape);
    for (int64_t i = 0; i < x.count; ++i)
      for (int64_t o = 0; o < w.count; ++o) {
        double z = bias ? in.trainable[2].at(o) : 0;
        for (int64_t k = 0; k < w.width; ++k) z += x.row(i)[k] * w.row(o)[k];
        rows64(y).row(i)[o] = activate(activation, z);
      }
    return std::vector{y};
  };
  row.mistake = [] {
    linear(Variable(Tensor::zeros({2, 3}, DType::f32)), Variable(Tensor::zeros({4, 5}, DType::f32)), Variable());
  };
  row.message = {"inner sizes differ", "(2, 3) float32", "(4, 5) float32"};
  row.any_thread_count = false;
  return row;
}

// Sizes: leading dimensions of x, then input, hidden and output width.
OpCase feed_forward_case(const std::string& variant, bool bias, Activation activation) {
  OpCase row{.op = "feed_forward", .variant = variant};
  row.sizes = {{2, 3, 4, 7, 5}, {1, 1, 1},    {1, 1, 1, 1}, {3, 17, 33, 9}, {0, 2, 3, 4},
               {2, 0, 3, 4},    {2, 3, 0, 4}, {2, 3, 4, 0}, {16, 7, 3},     {5, 8, 24, 8}};
  row.large = {3, 67, 30, 130, 57};
  row.make = [bias](const Sizes& s, Random& random) {
    const int64_t out = s.back(), hidden = s[s.size() - 2], in = s[s.size() - 3];
    OpInputs inputs{{random_normal(shape_of({s.begin(), s.end() - 2}), random),
                     random_normal({hidden, in}, random, 0.5), random_normal({out, hidden}, random, 0.5)}};
    inputs.parameters = {1, 2};
    if (bias) {
      for (const int64_t width : {hidden, out}) inputs.trainable.push_back(random_normal({width}, random));
      inputs.parameters = {1, 2, 3, 4};
    }
    return inputs;
  };
  row.run = [bias, activation](const std::vector<Variable>& x, const OpInputs&) {
    return std::vector{feed_forward(x[0], x[1], bias ? x[3] : Variable(), activation, x[2], bias ? x[4] : Variable())};
  };
  row.reference = [bias, activation](const OpInputs& in) {
    const auto x = rows64(in.trainable[0]), w1 = rows64(in.trainable[1]), w2 = rows64(in.trainable[2]);
    const int64_t hidden = in.trainable[1].dim(0), out = in.trainable[2].dim(0);
    Shape shape = in.trainable[0].shape();
    shape.set(-1, out);
    const Tensor y = zeros64(shape);
    std::vector<double> h(static_cast<size_t>(hidden));
    for (int64_t i = 0; i < x.count; ++i) {
      for (int64_t j = 0; j < hidden; ++j) {
        double z = bias ? in.trainable[3].at(j) : 0;
        for (int64_t k = 0; k < x.width; ++k) z += x.row(i)[k] * w1.row(j)[k];
        h[static_cast<size_t>(j)] = activate(activation, z);
      }
      for (int64_t o = 0; o < out; ++o) {
        double value = bias ? in.trainable[4].at(o) : 0;
        for (int64_t j = 0; j < hidden; ++j) value += h[static_cast<size_t>(j)] * w2.row(o)[j];
        y.data<double>()[i * out + o] = value;
      }
    }
    return std::vector{y};
  };
  row.mistake = [] {
    const auto zeros = [](const Shape& shape) { return Variable(Tensor::zeros(shape, DType::f32)); };
    feed_forward(zeros({2, 3}), zeros({4, 3}), {}, Activation::gelu, zeros({3, 5}), {});
  };
  row.message = {"inner sizes differ", "(2, 4) float32", "(3, 5) float32"};
  row.any_thread_count = false;
  return row;
}

// Sizes: leading dimensions, then m, k, n.
OpCase matmul_case(bool ta, bool tb) {
  OpCase row{.op = "matmul", .variant = std::string(ta ? "t" : "n") + (tb ? "t" : "n")};
  row.sizes = {{3, 4, 5}, {1, 1, 1}, {2, 3, 17, 5}, {2, 3, 4, 2, 3}, {0, 2, 3, 4},
               {2, 0, 3}, {2, 3, 0}, {3, 0, 2},     {1, 33, 2},      {16, 16, 16}};
  row.large = {3, 65, 130, 70};
  row.make = [ta, tb](const Sizes& s, Random& random) {
    const int64_t m = s[s.size() - 3], k = s[s.size() - 2], n = s.back();
    Shape a, b;
    for (size_t i = 0; i + 3 < s.size(); ++i) {
      a.append(s[i]);
      b.append(s[i]);
    }
    for (const int64_t dim : ta ? Sizes{k, m} : Sizes{m, k}) a.append(dim);
    for (const int64_t dim : tb ? Sizes{n, k} : Sizes{k, n}) b.append(dim);
    return OpInputs{{random_normal(a, random), random_normal(b, random)}};
  };
  row.run = [ta, tb](const std::vector<Variable>& x, const OpInputs&) {
    return std::vector{matmul(x[0], x[1], ta, tb)};
  };
  row.reference = [ta, tb](const OpInputs& in) {
    const Tensor &a = in.trainable[0], &b = in.trainable[1];
    const int64_t m = a.dim(ta ? -1 : -2), k = a.dim(ta ? -2 : -1), n = b.dim(tb ? -2 : -1);
    Shape shape = a.shape();
    shape.set(-2, m);
    shape.set(-1, n);
    const Tensor y = zeros64(shape);
    for (int64_t i = 0; i < y.numel(); ++i) {
      const int64_t batch = i / (m * n), r = i / n % m, c = i % n;
      for (int64_t j = 0; j < k; ++j)
        y.data<double>()[i] +=
            a.at(batch * m * k + (ta ? j * m + r : r * k + j)) * b.at(batch * k * n + (tb ? c * k + j : j * n + c));
    }
    return std::vector{y};
  };
  row.mistake = [ta, tb] {
    matmul(Variable(Tensor::zeros({7, 2, 2}, DType::f32)), Variable(Tensor::zeros({7, 3, 3}, DType::f32)), ta, tb);
  };
  row.message = {"inner sizes differ", "(7, 2, 2) float32", "(7, 3, 3) float32"};
  row.any_thread_count = false;
  return row;
}

constexpr RandomKey attention_key{11, 5};
enum class Masking { none, some, whole_sample, left_out };  // left_out: no padding, sequences of many lengths

AttentionOptions attention_options(int64_t heads, Masking masking, double dropout, const OpInputs& in) {
  AttentionOptions options{.heads = heads, .dropout = dropout, .random = attention_key};
  if (masking == Masking::left_out) {
    options.starts = in.indices[0];
    options.longest = static_cast<int64_t>(in.indices[1].at(0));
  } else if (masking != Masking::none) {
    options.key_mask = in.indices[0];
  }
  return options;
}

// Sizes: batch, tokens, head size.
OpCase attention_case(const std::string& variant, int64_t heads, Masking masking, double dropout) {
  OpCase row{.op = "attention", .variant = variant};
  row.sizes = {{2, 5, 3}, {1, 1, 1}, {1, 17, 4}, {3, 2, 1}, {2, 0, 3}, {0, 3, 2}};
  row.large = {3, 37, 16};
  row.make = [heads, masking](const Sizes& s, Random& random) {
    if (masking == Masking::left_out) {
      std::vector<int64_t> starts{0};  // the first is the longest
      for (int64_t b = 0; b < s[0]; ++b)
        starts.push_back(starts.back() + (b == 0 ? s[1] : static_cast<int64_t>(random.below(s[1] + 1))));
      return OpInputs{.trainable = {random_normal({starts.back(), 3 * heads * s[2]}, random)},
                      .indices = {Tensor::from({s[0] + 1}, starts), Tensor::from<int64_t>({1}, {s[1]})}};
    }
    OpInputs inputs{{random_normal({s[0], s[1], 3 * heads * s[2]}, random)}};
    if (masking == Masking::none) return inputs;
    const Tensor mask = random_indices({s[0], s[1]}, 2, DType::u8, random);
    for (int64_t b = 0; b < s[0]; ++b)
      for (int64_t t = 0; t < s[1]; ++t) {
        uint8_t& m = mask.data<uint8_t>()[b * s[1] + t];
        if (t == s[1] / 2) m = 1;  // at least one key
        if (b == 0 && masking == Masking::whole_sample) m = 0;
      }
    inputs.indices = {mask};
    return inputs;
  };
  row.run = [=](const std::vector<Variable>& x, const OpInputs& in) {
    return std::vector{attention(x[0], attention_options(heads, masking, dropout, in))};
  };
  row.reference = [=](const OpInputs& in) {
    const Tensor& qkv = in.trainable[0];
    const bool unpadded = masking == Masking::left_out;
    const int64_t batch = unpadded ? in.indices[0].numel() - 1 : qkv.dim(0), width = qkv.dim(-1) / 3, d = width / heads;
    const int64_t padded = unpadded ? static_cast<int64_t>(in.indices[1].at(0)) : qkv.dim(1);
    Shape shape = qkv.shape();
    shape.set(-1, width);
    const Tensor y = zeros64(shape);
    const auto start = [&](int64_t b) { return unpadded ? static_cast<int64_t>(in.indices[0].at(b)) : b * padded; };
    const auto element = [&](int64_t b, int64_t t, int64_t part, int64_t h, int64_t c) {
      return qkv.at(((start(b) + t) * 3 + part) * width + h * d + c);
    };
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t h = 0, n = start(b + 1) - start(b); h < heads; ++h)
        for (int64_t i = 0; i < n; ++i) {
          std::vector<double> p(static_cast<size_t>(n));
          double total = 0;
          for (int64_t j = 0; j < n; ++j) {
            double score = 0;
            for (int64_t c = 0; c < d; ++c) score += element(b, i, 0, h, c) * element(b, j, 1, h, c);
            const bool seen = masking == Masking::none || unpadded || in.indices[0].at(b * n + j) != 0;
            p[static_cast<size_t>(j)] = seen ? std::exp(score / std::sqrt(static_cast<double>(d))) : 0;
            total += p[static_cast<size_t>(j)];
          }
          for (int64_t j = 0; j < n; ++j) {
            double share = total > 0 ? p[static_cast<size_t>(j)] / total : 1.0 / static_cast<double>(n);
            if (dropout > 0) {
              const auto position = static_cast<uint64_t>(((b * heads + h) * padded + i) * padded + j);
              const bool kept =
                  philox(attention_key, position / 4)[position % 4] >= static_cast<float>(dropout) * 0x1p32;
              share = kept ? share / (1 - static_cast<double>(static_cast<float>(dropout))) : 0;
            }
            for (int64_t c = 0; c < d; ++c)
              y.data<double>()[(start(b) + i) * width + h * d + c] += share * element(b, j, 2, h, c);
          }
        }
    return std::vector{y};
  };
  row.mistake = [] { attention(Variable(Tensor::zeros({2, 3, 10}, DType::f32)), {.heads = 2}); };
  row.message = {"(2, 3, 10) float32", "2 heads"};
  if (masking == Masking::left_out) {
    row.cpu_only = true;
    row.sizes.insert(row.sizes.end(), {{4, 7, 3}, {9, 1, 2}});
    row.mistake = [] {
      attention(Variable(Tensor::zeros({5, 12}, DType::f32)),
                {.heads = 2, .starts = Tensor::from<int64_t>({3}, {0, 4, 5}), .longest = 3});
    };
    row.message = {"sequence 0 has 4 tokens", "0 to 3"};
  }
  row.any_thread_count = false;
  return row;
}

// attention of a linear layer, of which the first rows stay. Sizes: batch, tokens, head size, input width.
OpCase class_attention_case(const std::string& variant, int64_t heads, Masking masking, double dropout,
                            bool bias = true) {
  OpCase row = attention_case(variant, heads, masking, dropout);
  row.op = "class_attention";
  row.magnitude = 1;  // of queries, keys, values and their gradients, which the op adds up after they were rounded
  row.sizes = {{2, 5, 3, 4}, {1, 1, 1, 1}, {1, 17, 4, 7}, {3, 2, 1, 5}, {0, 3, 2, 3}, {4, 7, 3, 2}};
  row.large = {3, 37, 16, 40};
  row.cpu_only = true;
  const auto make = row.make;
  row.make = [=](const Sizes& s, Random& random) {
    OpInputs inputs = make({s[0], s[1], s[2]}, random);
    Shape shape = inputs.trainable[0].shape();
    if (masking == Masking::left_out) {  // every sequence has a token, and some rows behind them have no use
      auto at = inputs.indices[0].values<int64_t>();
      for (size_t b = 0; b < at.size(); ++b) at[b] = static_cast<int64_t>(b) * s[1] - static_cast<int64_t>(b / 2);
      if (s[1] == 1) std::iota(at.begin(), at.end(), int64_t{0});
      shape = {at.back() + 2, 0};
    }
    shape.set(-1, s[3]);
    const int64_t out = 3 * heads * s[2];
    inputs.trainable = {random_normal(shape, random), random_normal({out, s[3]}, random, 0.3)};
    if (bias) inputs.trainable.push_back(random_normal({out}, random));
    inputs.parameters = {1, 2};
    return inputs;
  };
  row.run = [=](const std::vector<Variable>& x, const OpInputs& in) {
    return std::vector{
        class_attention(x[0], x[1], bias ? x[2] : Variable(), attention_options(heads, masking, dropout, in))};
  };
  const auto of_all = row.reference;
  row.reference = [=](const OpInputs& in) {
    const auto x = rows64(in.trainable[0]), w = rows64(in.trainable[1]);
    const bool unpadded = masking == Masking::left_out;
    const int64_t batch = unpadded ? in.indices[0].numel() - 1 : in.trainable[0].dim(0);
    const auto start = [&](int64_t b) {
      return unpadded ? static_cast<int64_t>(in.indices[0].at(b)) : b * in.trainable[0].dim(1);
    };
    OpInputs projected = in;
    Shape shape = in.trainable[0].shape();
    shape.set(-1, w.count);
    if (unpadded) shape.set(0, start(batch));
    projected.trainable = {zeros64(shape)};
    const auto qkv = rows64(projected.trainable[0]);
    for (int64_t i = 0; i < qkv.count; ++i)
      for (int64_t o = 0; o < w.count; ++o) {
        qkv.row(i)[o] = bias ? in.trainable[2].at(o) : 0;
        for (int64_t k = 0; k < w.width; ++k) qkv.row(i)[o] += x.row(i)[k] * w.row(o)[k];
      }
    const Tensor of_every_token = of_all(projected)[0];
    const auto mixed = rows64(of_every_token);
    const Tensor y = zeros64({batch, w.count / 3});
    for (int64_t b = 0; b < batch; ++b) std::copy_n(mixed.row(start(b)), w.count / 3, rows64(y).row(b));
    return std::vector{y};
  };
  const auto zeros = [](const Shape& shape) { return Variable(Tensor::zeros(shape, DType::f32)); };
  row.mistake = [zeros] { class_attention(zeros({2, 3, 4}), zeros({15, 4}), zeros({15}), {.heads = 2}); };
  row.message = {"(15, 4) float32", "(2, 3, 4) float32", "2 heads"};
  if (masking == Masking::left_out) {
    row.mistake = [zeros] {
      class_attention(zeros({5, 2}), zeros({6, 2}), {},
                      {.heads = 2, .starts = Tensor::from<int64_t>({3}, {0, 3, 3}), .longest = 3});
    };
    row.message = {"sequence 1 has 0 tokens", "1 to 3"};
  }
  return row;
}

// Sizes: batch, channels, patch rows, patch columns, patch size, width.
OpCase patch_embedding_case() {
  OpCase row{.op = "patch_embedding"};
  row.sizes = {{2, 3, 2, 3, 2, 5},  {1, 1, 1, 1, 1, 1}, {3, 1, 1, 2, 3, 17},
               {1, 2, 2, 1, 8, 16}, {0, 1, 2, 2, 2, 3}, {2, 1, 0, 2, 2, 3}};
  row.large = {3, 3, 5, 4, 6, 130};
  row.make = [](const Sizes& s, Random& random) {
    return OpInputs{
        .trainable = {random_normal({s[0], s[1], s[2] * s[4], s[3] * s[4]}, random),
                      random_normal({s[5], s[1], s[4], s[4]}, random, 0.5), random_normal({s[5]}, random),
                      random_normal({1, 1, s[5]}, random), random_normal({1, s[2] * s[3] + 1, s[5]}, random)},
        .parameters = {1, 2, 3, 4}};
  };
  row.run = [](const std::vector<Variable>& x, const OpInputs&) {
    return std::vector{patch_embedding(x[0], x[1], x[2], x[3], x[4])};
  };
  // Written as the strided convolution that it is.
  row.reference = [](const OpInputs& in) {
    const Tensor &x = in.trainable[0], &w = in.trainable[1];
    const int64_t channels = x.dim(1), height = x.dim(2), width = x.dim(3), p = w.dim(2), features = w.dim(0);
    const int64_t tokens = in.trainable[4].dim(1);
    const Tensor y = zeros64({x.dim(0), tokens, features});
    for (int64_t i = 0; i < y.numel(); ++i) {
      const int64_t b = i / (tokens * features), t = i / features % tokens, f = i % features;
      double value = in.trainable[4].at(t * features + f);
      if (t == 0) {
        value += in.trainable[3].at(f);
      } else {
        const int64_t top = (t - 1) / (width / p) * p, left = (t - 1) % (width / p) * p;
        value += in.trainable[2].at(f);
        for (int64_t c = 0; c < channels; ++c)
          for (int64_t u = 0; u < p; ++u)
            for (int64_t v = 0; v < p; ++v)
              value += w.at(((f * channels + c) * p + u) * p + v) *
                       x.at(((b * channels + c) * height + top + u) * width + left + v);
      }
      y.data<double>()[i] = value;
    }
    return std::vector{y};
  };
  row.mistake = [] {
    const auto zeros = [](const Shape& shape) { return Variable(Tensor::zeros(shape, DType::f32)); };
    patch_embedding(zeros({1, 3, 5, 4}), zeros({8, 3, 2, 2}), zeros({8}), zeros({1, 1, 8}), zeros({1, 5, 8}));
  };
  row.message = {"(1, 3, 5, 4) float32", "patches of 2"};
  row.any_thread_count = false;
  return row;
}

}  // namespace

// Several tiles of queries and of keys.
OpCase long_attention_case() {
  OpCase row = attention_case("long_dropout", 2, Masking::some, 0.25);
  row.large = {1, 600, 10};
  return row;
}

std::vector<OpCase> matrix_cases() {
  return {linear_case("", true, Activation::none),
          linear_case("no_bias", false, Activation::none),
          linear_case("gelu", true, Activation::gelu),
          linear_case("gelu_tanh", true, Activation::gelu_tanh),
          linear_case("gelu_no_bias", false, Activation::gelu),
          feed_forward_case("", true, Activation::none),
          feed_forward_case("gelu", true, Activation::gelu),
          feed_forward_case("gelu_tanh", true, Activation::gelu_tanh),
          feed_forward_case("gelu_no_bias", false, Activation::gelu),
          matmul_case(false, false),
          matmul_case(false, true),
          matmul_case(true, false),
          matmul_case(true, true),
          attention_case("one_head", 1, Masking::none, 0),
          attention_case("heads", 3, Masking::none, 0),
          attention_case("mask", 2, Masking::some, 0),
          attention_case("masked_sample", 2, Masking::whole_sample, 0),
          attention_case("dropout", 2, Masking::none, 0.25),
          attention_case("mask_dropout", 2, Masking::whole_sample, 0.4),
          long_attention_case(),
          attention_case("unpadded", 3, Masking::left_out, 0),
          attention_case("unpadded_dropout", 2, Masking::left_out, 0.4),
          class_attention_case("", 3, Masking::none, 0),
          class_attention_case("no_bias", 1, Masking::some, 0, false),
          class_attention_case("masked_sample_dropout", 2, Masking::whole_sample, 0.4),
          class_attention_case("unpadded_dropout", 2, Masking::left_out, 0.25),
          patch_embedding_case()};
}

}  // namespace duet::ops
