#include "duet/cuda/cudnn_attention_graph.h"

#include <cmath>
#include <limits>

// Up to 9.15 the backward of unmasked sequences that are no multiple of 128 is wrong without a padding mask.
static_assert(CUDNN_VERSION >= 91600, "duet needs cuDNN 9.16 or later for attention");

namespace duet::cuda {
namespace {

// A graph with the shapes all its parts share.
class Builder {
 public:
  Builder(const AttentionProblem& problem, bool lengths)
      : problem_(problem),
        rows_{problem.batch, problem.heads, problem.tokens, problem.head_size},
        row_{problem.batch, problem.heads, problem.tokens, 1},
        scores_{problem.batch, problem.heads, problem.tokens, problem.tokens} {
    if (!lengths) return;
    const CudnnTensor tensor = {{problem.batch, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_INT32};
    graph.add(query_length_id, tensor);
    graph.add(key_length_id, tensor);
    query_length = query_length_id;
    key_length = key_length_id;
  }

  // One of the three parts of (B, T, 3C) as (B, H, T, D), or with the last two dimensions exchanged.
  CudnnTensor packed() const {
    const int64_t width = 3 * problem_.heads * problem_.head_size;
    return {rows_, {problem_.tokens * width, problem_.head_size, width, 1}, CUDNN_DATA_BFLOAT16};
  }
  CudnnTensor packed_transposed() const {
    CudnnTensor tensor = packed();
    std::swap(tensor.dims[2], tensor.dims[3]);
    std::swap(tensor.strides[2], tensor.strides[3]);
    return tensor;
  }
  CudnnTensor output() const {  // (B, T, C) as (B, H, T, D)
    const int64_t width = problem_.heads * problem_.head_size;
    return {rows_, {problem_.tokens * width, problem_.head_size, width, 1}, CUDNN_DATA_BFLOAT16};
  }
  CudnnTensor row() const { return {row_, row_major(row_), CUDNN_DATA_FLOAT}; }  // a number per row of scores
  CudnnTensor scores(cudnnDataType_t type) const { return {scores_, row_major(scores_), type}; }
  CudnnTensor scores_transposed() const {
    CudnnTensor tensor = scores(CUDNN_DATA_BFLOAT16);
    std::swap(tensor.strides[2], tensor.strides[3]);
    return tensor;
  }

  TensorId pointwise(const CudnnGraph::Pointwise& operation, const CudnnTensor& y) {
    const TensorId id = graph.intermediate(y);
    graph.pointwise(operation, id);
    return id;
  }
  TensorId scaled(TensorId x, TensorId scale) {
    return pointwise({.mode = CUDNN_POINTWISE_MUL, .x = x, .b = scale}, scores(CUDNN_DATA_FLOAT));
  }

  // Scores of keys past a sample's length become minus infinity.
  TensorId mask(TensorId x) {
    if (query_length == 0) return x;
    const TensorId row = index(x, 2), column = index(x, 3);
    const TensorId valid_row = condition(CUDNN_POINTWISE_CMP_LT, row, query_length);
    const TensorId valid_column = condition(CUDNN_POINTWISE_CMP_LT, column, key_length);
    const TensorId valid = condition(CUDNN_POINTWISE_LOGICAL_AND, valid_row, valid_column);
    const TensorId lowest = graph.scalar(-std::numeric_limits<float>::infinity());
    return pointwise({.mode = CUDNN_POINTWISE_BINARY_SELECT, .x = x, .b = lowest, .t = valid},
                     scores(CUDNN_DATA_FLOAT));
  }

  float scale() const { return 1 / std::sqrt(static_cast<float>(problem_.head_size)); }

  CudnnGraph graph;
  TensorId query_length = 0, key_length = 0;

 private:
  TensorId index(TensorId x, int64_t axis) {
    return pointwise({.mode = CUDNN_POINTWISE_GEN_INDEX, .x = x, .compute = CUDNN_DATA_INT32, .axis = axis},
                     scores(CUDNN_DATA_INT32));
  }
  TensorId condition(cudnnPointwiseMode_t mode, TensorId x, TensorId b) {
    return pointwise({.mode = mode, .x = x, .b = b, .compute = CUDNN_DATA_BOOLEAN}, scores(CUDNN_DATA_BOOLEAN));
  }

  AttentionProblem problem_;
  Dims rows_, row_, scores_;
};

}  // namespace

std::string unsuitable(const AttentionProblem& p) {
  if (p.batch < 1 || p.heads < 1 || p.tokens < 1 || p.head_size < 1) return "every extent must be at least 1";
  if (p.head_size % 8 != 0) return text("the head size must be a multiple of 8, not ", p.head_size);
  // Larger heads exist on some devices, with conditions; none of our models has them.
  if (p.head_size > 128) return text("the head size must be at most 128, not ", p.head_size);
  if (p.tokens == 1) return "a single token is not supported by the backward (attention is then the identity on value)";
  return {};
}

bool backward_has_lengths(const AttentionProblem& problem) {
  return problem.masked || problem.tokens % 128 != 0;
}

CudnnGraph attention_forward_graph(const AttentionProblem& problem) {
  Builder b(problem, problem.masked);
  CudnnGraph& g = b.graph;
  const TensorId m = b.query_length, n = b.key_length;
  const CudnnTensor scores = b.scores(CUDNN_DATA_FLOAT), row = b.row();
  g.add(query_id, b.packed());
  g.add(key_id, b.packed_transposed());
  g.add(value_id, b.packed());
  g.add(output_id, b.output());
  g.add(stats_id, row);

  TensorId s = g.intermediate(scores);
  g.matmul(query_id, key_id, s, m, n);
  s = b.mask(b.scaled(s, g.scalar(b.scale())));

  // Softmax: e = exp(s - top), probabilities = e / sum(e); stats = top + log(sum(e)).
  const TensorId top = g.intermediate(row);
  g.reduce(CUDNN_REDUCE_TENSOR_MAX, s, top);
  const TensorId shifted = b.pointwise({.mode = CUDNN_POINTWISE_SUB, .x = s, .b = top}, scores);
  const TensorId e = b.pointwise({.mode = CUDNN_POINTWISE_EXP, .x = shifted}, scores);
  const TensorId sum = g.intermediate(row);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, e, sum);
  const TensorId log_sum = b.pointwise({.mode = CUDNN_POINTWISE_LOG, .x = sum}, row);
  g.pointwise({.mode = CUDNN_POINTWISE_ADD, .x = top, .b = log_sum}, stats_id);
  const TensorId probabilities =
      b.pointwise({.mode = CUDNN_POINTWISE_DIV, .x = e, .b = sum}, b.scores(CUDNN_DATA_BFLOAT16));

  g.matmul(probabilities, value_id, output_id, m, 0, n);
  return std::move(g);
}

CudnnGraph attention_backward_graph(const AttentionProblem& problem) {
  Builder b(problem, backward_has_lengths(problem));
  CudnnGraph& g = b.graph;
  const TensorId m = b.query_length, n = b.key_length;
  const CudnnTensor scores = b.scores(CUDNN_DATA_FLOAT), row = b.row();
  g.add(query_id, b.packed());
  g.add(key_id, b.packed_transposed());
  g.add(value_id, b.packed_transposed());
  g.add(output_id, b.output());
  g.add(stats_id, row);
  g.add(output_gradient_id, b.output());
  g.add(query_gradient_id, b.packed());
  g.add(key_gradient_id, b.packed());
  g.add(value_gradient_id, b.packed());
  const TensorId scale = g.scalar(b.scale()), one = g.scalar(1);

  // delta = sum over D of dy * y, which equals the sum over keys of p * dp. Its place is in memory because a kernel of
  // its own computes it; the factor is where dropout's would stand.
  CudnnTensor products = b.output();
  products.type = CUDNN_DATA_FLOAT;
  const TensorId product =
      b.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = output_gradient_id, .b = output_id}, products);
  const TensorId plain_delta = g.intermediate(row);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, product, plain_delta);
  const auto rows = static_cast<size_t>(problem.batch * problem.heads * problem.tokens);
  const TensorId delta = g.scratch(row, rows * sizeof(float));
  g.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = plain_delta, .b = one}, delta);

  // p = exp(s - stats) again, then dv = p^T dy.
  TensorId s = g.intermediate(scores);
  g.matmul(query_id, key_id, s, m, n);
  s = b.pointwise({.mode = CUDNN_POINTWISE_SUB, .x = b.scaled(s, scale), .b = stats_id}, scores);
  const TensorId p = b.pointwise({.mode = CUDNN_POINTWISE_EXP, .x = b.mask(s)}, scores);
  const TensorId p_transposed = g.intermediate(b.scores_transposed());
  g.reshape(p, p_transposed);
  g.matmul(p_transposed, output_gradient_id, value_gradient_id, n, 0, m);

  // ds = p * (dp - delta) * scale, then dk = ds^T q and dq = ds k.
  const TensorId dp = g.intermediate(scores);
  g.matmul(output_gradient_id, value_id, dp, m, n);
  const TensorId centered = b.pointwise({.mode = CUDNN_POINTWISE_SUB, .x = dp, .b = delta}, scores);
  const TensorId ds = b.scaled(b.pointwise({.mode = CUDNN_POINTWISE_MUL, .x = centered, .b = p}, scores), scale);
  const TensorId ds_transposed = g.intermediate(b.scores_transposed());
  g.reshape(ds, ds_transposed);
  g.matmul(ds_transposed, query_id, key_gradient_id, n, 0, m);
  CudnnTensor untransposed = b.packed();
  untransposed.type = CUDNN_DATA_FLOAT;  // as of all intermediates; the kernel reads key itself
  const TensorId key = g.intermediate(untransposed);
  g.reshape(key_id, key);
  if (problem.deterministic) {
    g.matmul(ds, key, query_gradient_id, m, 0, n);
  } else {
    // Blocks of keys add to dq in whatever order they finish, in f32, before it is rounded.
    CudnnTensor sums = b.packed();
    sums.strides = row_major(sums.dims);
    sums.type = CUDNN_DATA_FLOAT;
    const TensorId sum = g.scratch(sums, rows * static_cast<size_t>(problem.head_size) * sizeof(float));
    g.matmul(ds, key, sum, m, 0, n);
    g.pointwise({.mode = CUDNN_POINTWISE_IDENTITY, .x = sum}, query_gradient_id);
  }
  return std::move(g);
}

}  // namespace duet::cuda
