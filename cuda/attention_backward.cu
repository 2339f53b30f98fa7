#include <numbers>

#include "duet/cuda/attention.h"
#include "duet/cuda/attention_tile.cuh"

// Gradients of attention. Scores are made again, tile by tile, from the logarithm of each row's sum of exponentials:
// once for the gradients of the queries, summed over keys, and once for those of keys and values, summed over queries,
// since one pass would have to add into memory in an order that differs from run to run.
namespace duet {
namespace cuda {
namespace {

using namespace attention_tile;

// sums[b, h, t] = dy . y of the row: what softmax's backward pass subtracts.
template <class T>
__global__ void output_dots_kernel(AttentionShape s, const T* y, const T* dy, float* sums) {
  const int64_t i = row_index<warp>();
  if (i >= s.batch * s.heads * s.tokens) return;
  const int64_t bh = i / s.tokens;
  const int b = static_cast<int>(bh / s.heads), h = static_cast<int>(bh % s.heads), t = static_cast<int>(i % s.tokens);
  const T *const out = output_rows(s, y, b, h).at(t), *const gradient = output_rows(s, dy, b, h).at(t);
  float total = 0;
  for (int64_t c = row_lane<warp>(); c < s.head_size; c += warp) total += to_float(out[c]) * to_float(gradient[c]);
  total = warp_reduce(total, Sum{});
  if (row_lane<warp>() == 0) sums[i] = total;
}

// Bytes of shared memory: two tensors of own rows and two of a tile of others. The weights lie where the values have
// been, unless these are own rows, which stay.
template <int head, bool to_keys>
constexpr size_t backward_shared = sizeof(float) * (2 * Tile<head>::own_floats + 2 * Tile<head>::other_floats +
                                                    (to_keys ? Tile<head>::weight_floats : 0));

// Gradients of the queries (to_keys false: own rows are queries, the others keys), or of keys and values (own rows are
// keys, the others queries). With p the probability, m what dropout multiplies it by and D = dy . y:
//   dv_j = sum_i p m dy_i,  ds_ij = p (m dy_i . v_j - D_i) scale,  dq_i = sum_j ds_ij k_j,  dk_j = sum_i ds_ij q_i.
template <class T, int head, bool to_keys>
__global__ void __launch_bounds__(Tile<head>::threads, Tile<head>::blocks(head == 128 || to_keys ? 255 : 168))
    attention_backward_kernel(Arguments a, const T* qkv, const float* log_sums, const float* dots, const T* dy,
                              T* dqkv) {
  using Own = Tile<head>;
  static_assert(Own::weight_floats <= Own::other_floats);
  constexpr int rows = Own::rows, unrolled = to_keys && head < 128 ? 2 : 1;
  // A holds queries or keys, B the rows of dy or values that go with them.
  float *const own_a = dynamic_shared(), *const own_b = own_a + Own::own_floats;
  float *const other_a = own_b + Own::own_floats, *const other_b = other_a + Own::other_floats;
  float* const weights = to_keys ? other_b + Own::other_floats : other_b;
  const AttentionShape& s = a.s;
  const int bh = static_cast<int>(blockIdx.y), heads = static_cast<int>(s.heads), b = bh / heads, h = bh % heads;
  const int tokens = static_cast<int>(s.tokens), first = static_cast<int>(blockIdx.x) * Own::own;
  const Position<head> at;
  const int last = keys_end<head>(a, b);
  const bool any = last > 0, masked = any && a.key_mask != nullptr;
  const int keys = any ? last : tokens;
  // Keys that nobody attends to have no gradients, nor have queries and keys where the probabilities are even.
  const int own_end = to_keys ? keys : tokens, others = to_keys ? (first < keys ? tokens : 0) : last;
  const bool busy = first + at.begin < own_end;
  const auto query_rows = packed_rows(s, qkv, b, 0, h), key_rows = packed_rows(s, qkv, b, 1, h),
             value_rows = packed_rows(s, qkv, b, 2, h), dy_rows = output_rows(s, dy, b, h);
  load_rows<head, Own::own, true>(a, to_keys ? key_rows : query_rows, first, own_end, own_a);
  load_rows<head, Own::own, true>(a, to_keys ? value_rows : dy_rows, first, own_end, own_b);
  constexpr float log2e = std::numbers::log2e_v<float>;
  const float scale = a.scale * log2e, kept_scale = 1.0f / (1.0f - a.dropout);
  const bool evenly = to_keys && !any;
  const float even = 1.0f / static_cast<float>(tokens);
  constexpr int queries = to_keys ? 4 : rows;
  // Numbers of the thread's queries. They are read when they are needed, as registers are scarce.
  const auto load_queries = [&](const float* from, int tile, float missing, float(&to)[queries]) {
#pragma unroll
    for (int n = 0; n < queries; ++n) {
      const int query = to_keys ? tile + 4 * at.x + n : first + at.row(n);
      to[n] = query < tokens ? from[bh * s.tokens + query] : missing;
    }
  };
  unsigned used = 0;  // of the own rows or of the thread's others, whichever are keys
  if constexpr (to_keys) {
#pragma unroll
    for (int i = 0; i < rows; i += 4) used |= used_keys(a, b, first + at.row(i), keys, masked) << i;
  }
  float da[rows][Own::columns] = {}, db[rows][Own::columns] = {};
  for (int tile = 0; tile < others; tile += Own::others) {
    __syncthreads();
    load_rows<head, Own::others, false>(a, to_keys ? query_rows : key_rows, tile, others, other_a);
    load_rows<head, Own::others, false>(a, to_keys ? dy_rows : value_rows, tile, others, other_b);
    __syncthreads();
    const int count = min(others - tile, Own::others);
    float ds[rows][4];
    if (busy) {
      float p[rows][4];
      dot_rows<head, unrolled>(at, own_a, other_a, count, p);
      if constexpr (!to_keys) used = used_keys(a, b, tile + 4 * at.x, others, a.key_mask != nullptr);
      float log_sum[queries];
      load_queries(log_sums, tile, INFINITY, log_sum);  // nothing is left of queries that do not exist
#pragma unroll
      for (int i = 0; i < rows; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float exponential = exp2f(fmaf(scale, p[i][j], -log2e * log_sum[to_keys ? j : i]));
          p[i][j] = used >> (to_keys ? i : j) & 1 ? (evenly ? even : exponential) : 0.0f;
        }
      // What dropout drops is negative from here on.
      if (a.dropout > 0) {
        const unsigned kept = kept_probabilities<head, to_keys>(a, at, bh, first, tile);
#pragma unroll
        for (int i = 0; i < rows; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) p[i][j] = kept >> kept_bit<to_keys>(i, j) & 1 ? p[i][j] : -p[i][j];
      }
      if constexpr (to_keys) {
#pragma unroll
        for (int i = 0; i < rows; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) ds[i][j] = p[i][j] < 0 ? 0.0f : p[i][j] * kept_scale;  // NaN stays
        add_weighted<head>(at, ds, weights, other_b, count, db);
        if (!any) continue;
      }
      dot_rows<head, unrolled>(at, own_b, other_b, count, ds);
      float dot[queries];
      load_queries(dots, tile, 0.0f, dot);
#pragma unroll
      for (int i = 0; i < rows; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float dp = p[i][j] > 0 ? kept_scale * ds[i][j] : 0.0f;
          ds[i][j] = p[i][j] != 0 ? fabsf(p[i][j]) * (dp - dot[to_keys ? j : i]) : 0.0f;
        }
    }
    if constexpr (!to_keys) __syncthreads();  // the weights take the values' place
    if (busy) add_weighted<head>(at, ds, weights, other_a, count, da);
  }
#pragma unroll
  for (int i = 0; i < rows; ++i)
#pragma unroll
    for (int c = 0; c < Own::columns; ++c) da[i][c] *= a.scale;
  store_rows<head>(a, at, packed_rows(s, dqkv, b, to_keys ? 1 : 0, h), first, da);
  if constexpr (to_keys) store_rows<head>(a, at, packed_rows(s, dqkv, b, 2, h), first, db);
}

}  // namespace

template <class T>
void own_attention_backward(CudaContext context, AttentionShape s, const T* qkv, const uint8_t* key_mask,
                            const float* log_sums, const T* y, const T* dy, float dropout, RandomKey random, T* dqkv) {
  const Arguments a = arguments(context, s, key_mask, dropout, random, aligned_packs(qkv, dy, dqkv));
  const Tensor dots = Tensor::empty({s.batch, s.heads, s.tokens}, DType::f32, {DeviceKind::cuda, context.index});
  float* sums = dots.data<float>();
  launch(context, "attention_dots", output_dots_kernel<T>, row_blocks<warp>(s.batch * s.heads * s.tokens),
         dim3(block_threads), s, y, dy, sums);
  with_head(s, [&](auto head) {
    const dim3 grid = grid_of<head>(s);
    constexpr int threads = Tile<head>::threads;
    launch(context, "attention_backward_query", attention_backward_kernel<T, head, false>, grid,
           BlockShape(threads, backward_shared<head, false>), a, qkv, log_sums, sums, dy, dqkv);
    launch(context, "attention_backward_key", attention_backward_kernel<T, head, true>, grid,
           BlockShape(threads, backward_shared<head, true>), a, qkv, log_sums, sums, dy, dqkv);
  });
}

template void own_attention_backward<float>(CudaContext, AttentionShape, const float*, const uint8_t*, const float*,
                                            const float*, const float*, float, RandomKey, float*);
template void own_attention_backward<bf16>(CudaContext, AttentionShape, const bf16*, const uint8_t*, const float*,
                                           const bf16*, const bf16*, float, RandomKey, bf16*);

}  // namespace cuda
}  // namespace duet
